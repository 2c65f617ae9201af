"""The table of failures and the budget of a loop."""

from __future__ import annotations

import contextlib

import pytest
import tenacity

from fleet.errors import (
    Answered,
    BrowserDied,
    BrowserStartFailed,
    ConfigurationError,
    ElementMissing,
    FleetError,
    HandshakeTimeout,
    KernelRefused,
    NoKeyFree,
    NotAllowed,
    PageFailed,
    SpaceGone,
    TaskFailed,
    TryLater,
    TunnelLost,
    Unavailable,
    Unproved,
    WrongExit,
)
from worker.failures import TABLE, Budget, Reaction, reaction
from worker.record import Record


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PageFailed("u", "ERR_NETWORK_CHANGED"), Reaction.RETRY),
        (PageFailed("u", "ERR_CERT_AUTHORITY_INVALID"), Reaction.GIVE_UP),
        (PageFailed("u", "ERR_NAME_NOT_RESOLVED"), Reaction.ROTATE),
        (PageFailed("u", "ERR_TIMED_OUT"), Reaction.ROTATE),
        (PageFailed("u", "TIMEOUT"), Reaction.RETRY),
        (PageFailed("u", "BUSY"), Reaction.RESTART),
        (PageFailed("u", "HTTP_500"), Reaction.RETRY),
        (PageFailed("u", "HTTP_418"), Reaction.GIVE_UP),
        (PageFailed("u", "DOWNLOAD"), Reaction.GIVE_UP),
        (Answered("limited", "status 429"), Reaction.ANSWER),
        (PageFailed("u", "ERR_SOMETHING_NEW"), Reaction.RETRY),
        (ElementMissing(), Reaction.RETRY),
        (TaskFailed(), Reaction.GIVE_UP),
        (BrowserDied(), Reaction.RESTART),
        (BrowserStartFailed(), Reaction.RESTART),
        (HandshakeTimeout(), Reaction.ROTATE),
        (TunnelLost(), Reaction.ROTATE),
        (WrongExit(), Reaction.ROTATE),
        (Unproved(), Reaction.ROTATE),
        (KernelRefused(), Reaction.ROTATE),
        (SpaceGone(), Reaction.GIVE_UP),
        (NoKeyFree(), Reaction.WAIT),
        (Unavailable(), Reaction.WAIT),
        (ConfigurationError(), Reaction.GIVE_UP),
        (NotAllowed(), Reaction.GIVE_UP),
        (FleetError(), Reaction.RESTART),
        (OSError(28, "no space"), Reaction.RESTART),
        (KeyError("a fault of ours"), Reaction.GIVE_UP),
    ],
    ids=lambda value: value.value if isinstance(value, Reaction) else f"{type(value).__name__}:{value}"[:50],
)
def test_reaction(error: Exception, expected: Reaction) -> None:
    """Each kind of failure has its one reaction."""
    assert reaction(error) is expected


def test_every_row_says_why() -> None:
    """A row without a reason could not be judged by who changes it."""
    assert all(row.why for row in TABLE)


def _always(error: Exception, budget: Budget) -> int:
    """Runs into ERROR until the budget's loop lets it through; how many tries that took."""
    tries = 0
    retrying = budget.retrying(*(set(Reaction) - {Reaction.GIVE_UP, Reaction.ANSWER}))
    retrying.sleep = lambda seconds: None
    with pytest.raises(type(error)):
        for attempt in retrying:
            with attempt:
                tries += 1
                budget.spend(error)
                raise error
    return tries


def test_attempts_are_bounded() -> None:
    """A failure that may pass is tried as often as the setting says, and the last one is raised."""
    assert _always(BrowserDied(), Budget(3)) == 3


def test_giving_up_at_once() -> None:
    """What cannot pass is tried once."""
    assert _always(ConfigurationError(), Budget(3)) == 1


def test_waiting_is_no_attempt_but_ends() -> None:
    """Waiting for a key uses up time, not attempts, and the time is bounded."""
    budget = Budget(2, wait_seconds=30)
    assert _always(NoKeyFree(), budget) > 2
    assert budget.failed == 0 and not budget.is_left


def test_pauses_have_jitter() -> None:
    """Workers that fail together do not come back together."""
    budget = Budget(50)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = 4
    state.set_exception((BrowserDied, BrowserDied(), None))
    assert len({budget.pause(state) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("stage", "error", "keeps"),
    [
        ("browser_start", TryLater("the browser is being replaced"), True),
        ("tunnel", TryLater("no key is free"), False),
        ("browser_start", BrowserStartFailed("it ended at once"), True),
        ("proof", WrongExit("another address"), False),
    ],
)
def test_a_tunnel_is_kept_where_another_exit_would_not_help(stage: str, error: FleetError, *, keeps: bool) -> None:
    """Who waits for a browser waits with the tunnel that it has; who waits for a tunnel asks for one again."""
    record = Record()
    with contextlib.suppress(FleetError), record.noting(Budget(3)), record.timed(stage):
        raise error
    assert record.keeps_tunnel is keeps
