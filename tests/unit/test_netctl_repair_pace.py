"""When netctl repairs: what holds workers back at once, the rest in batches, and nobody is fought for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.sockets.callers import Bucket
from netctl.kernel.notifications import Kind
from netctl.slots.repair import BATCH_SECONDS, BURST, EVERY_SECONDS, URGENT, RepairPace


@pytest.mark.parametrize("kind", Kind)
def test_the_kill_switch_is_looked_at_at_once_and_the_rest_in_batches(kind: Kind) -> None:
    """Rules, nftables and lost notifications are due when they are heard, everything else 250 ms later."""
    pace = RepairPace()
    pace.hear(kind, 100.0)
    assert pace.due(100.0) == pytest.approx(0.0 if kind in URGENT else BATCH_SECONDS)
    assert pace.take(100.0 + BATCH_SECONDS) == {kind}
    assert pace.due(101.0) is None


def test_a_batch_begins_with_its_first_notification() -> None:
    """Whoever notifies without a pause does not put the repair off for ever, and is answered once."""
    pace = RepairPace()
    for step in range(100):
        pace.hear(Kind.LINKS, 50.0 + step * 0.002)
    assert pace.due(50.2) == pytest.approx(0.05)
    assert pace.take(50.26) == {Kind.LINKS}
    assert pace.take(60.0) == frozenset()


def test_a_kind_that_is_fought_over_does_not_hold_the_others_up() -> None:
    """Rules removed for ever: their burst is used up, a flushed table is still answered at once.

    That look mends the rules as well, so they are paid for then, and wait the longer for their next turn.
    """
    pace = RepairPace()
    for _ in range(BURST):
        pace.hear(Kind.RULES, 10.0)
        assert pace.take(10.0) == {Kind.RULES}
    pace.hear(Kind.RULES, 10.0)
    assert pace.take(10.0) == frozenset()
    assert pace.due(10.0) == pytest.approx(EVERY_SECONDS)
    pace.hear(Kind.TABLES, 11.0)
    assert pace.take(11.0) == {Kind.TABLES, Kind.RULES}
    assert pace.due(11.0) is None
    pace.hear(Kind.RULES, 11.0)
    assert pace.due(11.0) == pytest.approx(2 * EVERY_SECONDS - 1)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_more_than_the_burst_and_one_each_five_seconds(pauses: list[float]) -> None:
    """Whatever the times of the notifications, repairs up to any moment are at most ten and one each five seconds."""
    bucket, now, taken = Bucket(1 / EVERY_SECONDS, BURST), 1000.0, 0
    for pause in pauses:
        now += pause
        if bucket.wait(now) <= 0:
            bucket.take()
            taken += 1
        assert taken <= BURST + (now - 1000.0) / EVERY_SECONDS + 1e-3


def test_waiting_as_long_as_it_says_is_enough() -> None:
    """What wait() answers is the time to the next repair, no less and no more."""
    bucket = Bucket(1 / EVERY_SECONDS, 1)
    assert bucket.wait(5.0) == 0
    bucket.take()
    seconds = bucket.wait(6.0)
    assert seconds == pytest.approx(4.0)
    assert bucket.wait(6.0 + seconds - 0.01) > 0
    assert bucket.wait(6.0 + seconds) == 0
