"""The contract of the queue, on both engines: all hubs together respect a site's limits."""

from __future__ import annotations

import pytest

from hub.queue import politeness
from hub.queue.repeat import Interval
from hub.queue.values import Pace
from tests.queues import Queue, jobs

HOUR_SECONDS = 3600.0


def test_an_interval_lies_between_two_beginnings_of_all_hubs(queue: Queue) -> None:
    """For any hub: no job before the interval is over, the next right after it, and the claim says when that is."""
    first, second = (queue.hub(name, Pace(interval_seconds=10, most=9)) for name in ("h1", "h2"))
    first.store.add(jobs("a", "a", "a"))
    (one,) = first.claim(3)
    found = second.look(3)
    assert not found.jobs and found.next_seconds and 9 < found.next_seconds <= 10
    queue.ahead(found.next_seconds + 0.001)
    (two,) = second.claim(3)
    assert 10 <= two.began_at - one.began_at < 11
    assert not first.claim(3)


def test_most_at_once_counts_all_hubs(queue: Queue) -> None:
    """Three of five jobs run, on two hosts; the fourth begins when one of them ends, however it ends."""
    first, second = (queue.hub(name, Pace(interval_seconds=0, most=3)) for name in ("h1", "h2"))
    first.store.add(jobs(*["a"] * 5))
    running = [*first.claim(2), *second.claim(2)]
    assert len(running) == 3
    assert first.look().next_seconds is None
    second.end(running[2], "failed")
    assert len(first.claim(3)) == 1


def test_a_paused_site_begins_nothing_and_goes_on_where_it_was(queue: Queue) -> None:
    """Running jobs end as usual; new jobs wait too; after resuming they begin at once."""
    hub = queue.hub()
    hub.store.add(jobs("a", "a"))
    (claimed,) = hub.claim(1)
    assert hub.store.pause("a", paused=True) and not hub.store.pause("unknown", paused=True)
    hub.store.add(jobs("a"))
    assert not hub.claim(9)
    hub.end(claimed)
    assert hub.look(9).next_seconds is None
    hub.store.pause("a", paused=False)
    assert len(hub.claim(9)) == 2


def test_another_pace_holds_for_what_begins_from_now_on(queue: Queue) -> None:
    """Setting `most` below the number of running jobs stops none of them; later runs respect it."""
    hub = queue.hub(pace=Pace(interval_seconds=0, most=4))
    hub.store.add(jobs(*["a"] * 9))
    running = hub.claim(9)
    assert len(running) == 4
    hub.store.pace("a", Pace(interval_seconds=0, most=2))
    for left, claimed in zip((0, 0, 1, 1), running, strict=True):
        hub.end(claimed)
        assert len(hub.claim(9)) == left
    hub.store.pace("a", Pace(interval_seconds=0, most=5))
    assert len(hub.claim(9)) == 3


def test_a_site_that_says_later_is_left_alone_so_long(queue: Queue) -> None:
    """Retry-After holds for all its jobs and all hubs; the job comes back by no other way, and costs no attempt."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add([*jobs("a", attempts=1), *jobs("a")])
    (claimed,) = hub.claim(1)
    hub.end(claimed, "limited", wait_seconds=HOUR_SECONDS)
    found = other.look(9)
    assert not found.jobs and found.next_seconds and HOUR_SECONDS - 60 < found.next_seconds <= HOUR_SECONDS
    queue.ahead(HOUR_SECONDS + 1)
    other.store.beat(other.host, 60)
    assert len(other.claim(9)) == 1, "slowed: no longer both at once"
    assert queue.one("SELECT min(attempts_left) FROM jobs") == 1


def test_a_site_that_goes_on_refusing_is_asked_ever_more_seldom(queue: Queue) -> None:
    """Each time without a word of its own the rest doubles, up to a bound; good runs bring the old pace back."""
    hub = queue.hub(pace=Pace(interval_seconds=2, most=1))
    hub.store.add(jobs("a", repeat=Interval(1)))
    rests = []
    for _ in range(8):
        (claimed,) = hub.claim()
        hub.end(claimed, "limited")
        rests.append(hub.look().next_seconds or 0)
        queue.ahead(rests[-1] + 0.01)
        hub.store.beat(hub.host, 60)
    assert rests[:3] == pytest.approx([30, 60, 120], abs=1)
    assert rests[-1] == pytest.approx(politeness.SLOWEST * politeness.LEAST_REST_SECONDS / 2, abs=1)
    for _ in range(7):
        (claimed,) = hub.claim()
        hub.end(claimed)
        queue.ahead((hub.look().next_seconds or 0) + 0.01)
        hub.store.beat(hub.host, 600)
    assert queue.one("SELECT slowed FROM sites") == 1


def test_no_word_of_a_site_stops_it_for_ever(queue: Queue) -> None:
    """A Retry-After of years is cut to a day, one of nothing and below to the interval."""
    hub = queue.hub(pace=Pace(interval_seconds=5, most=1))
    hub.store.add(jobs("a"))
    for said, expected in ((1e12, 86_400.0), (-5.0, 30.0)):
        (claimed,) = hub.claim()
        hub.end(claimed, "limited", wait_seconds=said)
        found = hub.look().next_seconds
        assert found == pytest.approx(expected, abs=1)
        queue.ahead(found or 0)
        hub.store.beat(hub.host, 60)
