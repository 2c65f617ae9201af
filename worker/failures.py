"""The table of errors and the worker's reactions. The first row that fits counts.

retry    try the same page again, in the same browser
restart  try again with a new browser and the same tunnel
rotate   try again with another exit and a new browser
wait     try again later; uses none of the loop's attempts, but has its own limit
give up  the loop has failed
answer   the loop ends with the site's answer; the site is not asked again (answers.py)
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
    """The reaction to an error."""

    RETRY = "retry"
    RESTART = "restart"
    ROTATE = "rotate"
    WAIT = "wait"
    GIVE_UP = "give up"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table."""

    kind: type[BaseException]
    reaction: Reaction
    why: str
    code: str = ""
    """For PageFailed: a regular expression that is matched at the beginning of its code."""

    def fits(self, error: BaseException) -> bool:
        if not isinstance(error, self.kind):
            return False
        return not self.code or (isinstance(error, PageFailed) and re.match(self.code, error.code) is not None)


TABLE = (
    Row(Answered, Reaction.ANSWER, "the site has answered"),
    Row(PageFailed, Reaction.RETRY, "the host's addresses changed; the exit is not to blame", "ERR_NETWORK_CHANGED"),
    Row(PageFailed, Reaction.GIVE_UP, "a certificate does not get better", "ERR_CERT|ERR_SSL|ERR_BAD_SSL"),
    Row(PageFailed, Reaction.GIVE_UP, "an invalid address", "ERR_INVALID_URL|ERR_UNKNOWN_URL|ERR_DISALLOWED"),
    Row(
        PageFailed,
        Reaction.ROTATE,
        "the path to the site is bad",
        "ERR_(NAME|DNS|ADDRESS|CONNECTION|INTERNET|TIMED|TUNNEL|PROXY|SOCKET|EMPTY|HTTP2|QUIC|NETWORK_IO)",
    ),
    Row(
        PageFailed,
        Reaction.GIVE_UP,
        "the same address gives the same: a file, no page, a window that closes itself, an endless page",
        "DOWNLOAD|NO_CONTENT|MALFORMED|WINDOW_CLOSED|RELOADS|DIALOGS|SCRIPT|UNREADABLE|ERR_TOO_MANY_REDIRECTS|HTTP_4",
    ),
    Row(PageFailed, Reaction.RESTART, "a page that keeps its browser busy may leave it so", "BUSY"),
    Row(PageFailed, Reaction.RETRY, "anything else about a page may pass"),
    Row(ElementMissing, Reaction.RETRY, "a slow or half loaded page"),
    Row(TaskFailed, Reaction.GIVE_UP, "the same code gives the same answer"),
    Row(BrowserDied, Reaction.RESTART, "after a crash or a freeze every command fails"),
    Row(TunnelError, Reaction.ROTATE, "server silent, lease lost or wrong exit: another key"),
    Row(KernelRefused, Reaction.ROTATE, "the slot is sealed; the next connect makes a new tunnel"),
    Row(SpaceGone, Reaction.GIVE_UP, "only the launcher makes a namespace: the worker has to be restarted"),
    Row(TryLater, Reaction.WAIT, "no key free, netctl away, or the browser is being replaced"),
    Row(ConfigurationError, Reaction.GIVE_UP, "the same settings give the same error"),
    Row(UsageError, Reaction.GIVE_UP, "as above"),
    Row(NotAllowed, Reaction.GIVE_UP, "as above"),
    Row(MissingProgram, Reaction.GIVE_UP, "as above"),
    Row(ProtocolError, Reaction.GIVE_UP, "two versions of the fleet talk to each other"),
    Row(FleetError, Reaction.RESTART, "any other error of the fleet"),
    Row(OSError, Reaction.RESTART, "disk full, too many open files: may pass"),
    Row(Exception, Reaction.GIVE_UP, "a bug; the log has the traceback"),
)


def reaction(error: BaseException) -> Reaction:
    """The table's reaction to ERROR."""
    return next((row.reaction for row in TABLE if row.fits(error)), Reaction.GIVE_UP)


WAIT_SECONDS = 120
"""How long a loop waits in all for keys or netctl before it fails."""
_short = tenacity.wait_random_exponential(multiplier=0.1, max=5)
_long = tenacity.wait_random_exponential(multiplier=0.5, max=10)


class Budget:
    """The attempts and the waiting time of one loop, shared by all its retries."""

    def __init__(self, attempts: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self._attempts = attempts
        self._wait_seconds = wait_seconds
        self.failed = 0
        """Attempts used up so far."""
        self._waited = 0.0

    def spend(self, error: BaseException) -> None:
        """Count one failure; call it once for each."""
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
        """A tenacity loop that retries after failures with one of REACTIONS while budget is left."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: reaction(error) in reactions and self.is_left),
            wait=self.pause,
            reraise=True,
        )
