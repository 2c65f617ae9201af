"""One table: what happened, and what a worker does about it. The first row that fits counts.

retry    the same page again, in the same browser
restart  a new browser, the same tunnel
rotate   another exit, a new browser
wait     the same later; does not use up the loop's attempts, but has a limit of its own
give up  the loop is handed in as failed
answer   the loop is handed in with what the site said; nobody asks a second time (answers.py)
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import tenacity

from fleet.errors import (
    Answered,
    BrowserDied,
    ConfigurationError,
    ElementMissing,
    FleetError,
    KernelRefused,
    MissingProgram,
    NotAllowed,
    PageFailed,
    ProtocolError,
    SpaceGone,
    TaskFailed,
    TryLater,
    TunnelError,
    UsageError,
)


class Reaction(enum.Enum):
    """What to do next."""

    RETRY = "retry"
    RESTART = "restart"
    ROTATE = "rotate"
    WAIT = "wait"
    GIVE_UP = "give up"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    kind: type[BaseException]
    reaction: Reaction
    why: str
    code: str = ""
    """For PageFailed: a regular expression over the code, matched from its beginning."""

    def fits(self, error: BaseException) -> bool:
        if not isinstance(error, self.kind):
            return False
        return not self.code or (isinstance(error, PageFailed) and re.match(self.code, error.code) is not None)


TABLE = (
    Row(Answered, Reaction.ANSWER, "the site has said what it has to say"),
    Row(PageFailed, Reaction.RETRY, "the host's addresses changed; the exit is not to blame", "ERR_NETWORK_CHANGED"),
    Row(PageFailed, Reaction.GIVE_UP, "a certificate does not get better", "ERR_CERT|ERR_SSL|ERR_BAD_SSL"),
    Row(PageFailed, Reaction.GIVE_UP, "an address that is none", "ERR_INVALID_URL|ERR_UNKNOWN_URL|ERR_DISALLOWED"),
    Row(
        PageFailed,
        Reaction.ROTATE,
        "the way to the site is bad",
        "ERR_(NAME|DNS|ADDRESS|CONNECTION|INTERNET|TIMED|TUNNEL|PROXY|SOCKET|EMPTY|HTTP2|QUIC|NETWORK_IO)",
    ),
    Row(
        PageFailed,
        Reaction.GIVE_UP,
        "the same address brings the same: a file, no page, a window that closes itself, a page without end",
        "DOWNLOAD|NO_CONTENT|MALFORMED|WINDOW_CLOSED|RELOADS|DIALOGS|SCRIPT|UNREADABLE|ERR_TOO_MANY_REDIRECTS|HTTP_4",
    ),
    Row(PageFailed, Reaction.RESTART, "a page that keeps its browser busy may leave it so", "BUSY"),
    Row(PageFailed, Reaction.RETRY, "anything else about a page may pass"),
    Row(ElementMissing, Reaction.RETRY, "a slow or half loaded page"),
    Row(TaskFailed, Reaction.GIVE_UP, "the same code brings home the same"),
    Row(BrowserDied, Reaction.RESTART, "after a crash or a freeze every command fails"),
    Row(TunnelError, Reaction.ROTATE, "server silent, lease lost or wrong exit: another key"),
    Row(KernelRefused, Reaction.ROTATE, "the slot is sealed; the next connect makes its tunnel from nothing"),
    Row(SpaceGone, Reaction.GIVE_UP, "only the launcher makes a namespace: the worker has to be started again"),
    Row(TryLater, Reaction.WAIT, "no key free, netctl away, or the browser is being replaced"),
    Row(ConfigurationError, Reaction.GIVE_UP, "the same words give the same error"),
    Row(UsageError, Reaction.GIVE_UP, "as above"),
    Row(NotAllowed, Reaction.GIVE_UP, "as above"),
    Row(MissingProgram, Reaction.GIVE_UP, "as above"),
    Row(ProtocolError, Reaction.GIVE_UP, "two versions of the fleet talk to each other"),
    Row(FleetError, Reaction.RESTART, "an error with a name of ours that has no row"),
    Row(OSError, Reaction.RESTART, "disk full, too many open files: may pass"),
    Row(Exception, Reaction.GIVE_UP, "a fault in code; the log has the traceback"),
)


def reaction(error: BaseException) -> Reaction:
    """The table's word on ERROR."""
    return next((row.reaction for row in TABLE if row.fits(error)), Reaction.GIVE_UP)


WAIT_SECONDS = 120
"""A loop waits this long in all for keys or for netctl, then it has failed."""
_short = tenacity.wait_random_exponential(multiplier=0.1, max=5)
_long = tenacity.wait_random_exponential(multiplier=0.5, max=10)


class Budget:
    """The attempts and the waiting time of one loop, shared by everything that tries again in it."""

    def __init__(self, attempts: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._attempts = attempts
        self._wait_seconds = wait_seconds
        self.failed = 0
        """Attempts used up so far."""
        self._waited = 0.0

    def spend(self, error: BaseException) -> None:
        """Note one failure; call once for each."""
        if reaction(error) is not Reaction.WAIT:
            self.failed += 1

    @property
    def is_left(self) -> bool:
        return self.failed < self._attempts and self._waited < self._wait_seconds

    def pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try, with jitter (tenacity's `wait`)."""
        error = state.outcome.exception() if state.outcome else None
        if error is not None and reaction(error) is Reaction.WAIT:
            seconds = _long(state)
            self._waited += seconds
            return seconds
        return _short(state)

    def retrying(self, *reactions: Reaction) -> tenacity.Retrying:
        """A tenacity loop that goes on after failures with one of REACTIONS while budget is left."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: reaction(error) in reactions and self.is_left),
            wait=self.pause,
            reraise=True,
        )
