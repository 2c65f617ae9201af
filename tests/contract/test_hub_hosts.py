"""The contract of the queue, on both engines: hosts and their leases, and what is rung when."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import pytest

from fleet.errors import HostFenced
from hub.queue.notices import Notices
from hub.queue.store import Host
from hub.queue.values import Pace, Taken
from tests.queues import LEASE_SECONDS, Queue, ending, jobs

HOUR_SECONDS = 3600.0


def test_the_jobs_of_a_silent_host_go_to_others(queue: Queue) -> None:
    """Not before its lease is over, then at once, without the usual back-off; what it still reports is stale."""
    dead, other = queue.hub("h1"), queue.hub("h2")
    dead.store.add(jobs("a", "b"))
    lost = dead.claim(2)
    other.rung.clear()
    assert other.store.recover() == 0 and not other.rung.is_set()
    queue.ahead(LEASE_SECONDS / 2)
    other.store.beat(other.host, LEASE_SECONDS)
    assert other.store.recover() == 0
    queue.ahead(LEASE_SECONDS / 2 + 1)
    assert other.store.recover() == 2
    assert other.rung.is_set(), "a hub that recovers jobs wakes itself"
    again = other.claim(9)
    assert {(one.job, one.fence) for one in again} == {(one.job, 2) for one in lost}
    assert dead.store.finish([ending(one) for one in lost]) == [Taken.STALE] * 2
    assert [other.end(one) for one in again] == [Taken.EFFECTIVE] * 2
    assert sorted(queue.rows("SELECT fence, outcome FROM runs")) == [(1, "lost")] * 2 + [(2, "good")] * 2


def test_a_host_that_was_fenced_is_told(queue: Queue) -> None:
    """Its beat and its claims are refused; it begins another life, and works on."""
    dead, other = queue.hub("h1"), queue.hub("h2")
    dead.store.add(jobs("a"))
    queue.ahead(LEASE_SECONDS + 1)
    with pytest.raises(HostFenced):
        dead.claim()
    dead.store.beat(dead.host, LEASE_SECONDS)
    assert other.store.recover() == 0, "it was late, and nobody had noticed"
    queue.ahead(LEASE_SECONDS + 1)
    other.store.recover()
    for refused in (dead.claim, lambda: dead.store.beat(dead.host, LEASE_SECONDS)):
        with pytest.raises(HostFenced):
            refused()
    dead.store.enlist(Host("h1", "2"), LEASE_SECONDS, version="0", settings="")
    with pytest.raises(HostFenced):
        dead.store.beat(dead.host, LEASE_SECONDS)
    dead.host = Host("h1", "2")
    assert len(dead.claim()) == 1


def test_a_new_life_finds_what_the_old_one_held(queue: Queue) -> None:
    """A restarted hub keeps the runs of workers that still work on its host; no other host takes them."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    hub.host = Host("h1", "2")
    hub.store.enlist(hub.host, LEASE_SECONDS, version="0", settings="")
    assert hub.store.held(hub.host) == {claimed.job: (1, "w1", False, claimed.began_at)}
    assert other.store.recover() == 0
    assert hub.end(claimed) is Taken.EFFECTIVE


def test_a_host_that_ends_in_order_is_not_waited_for(queue: Queue) -> None:
    """Its remaining jobs are recovered at the next check."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add(jobs("a"))
    hub.claim()
    hub.store.retire(hub.host)
    assert other.store.recover() == 1


def test_a_clock_that_is_set_back_holds_up_nothing(queue: Queue) -> None:
    """Sites rest no longer than they were to, what was due is due, dead hosts are found; dates stay dates."""
    hub, dead = queue.hub("h1", Pace(interval_seconds=20, most=9)), queue.hub("h2")
    hub.store.add(jobs("a", "a", "b"))
    hub.store.add(jobs("c", not_before=datetime.now(timezone.utc) + timedelta(hours=2)))
    assert len(dead.claim(1)) == 1
    assert len(hub.claim(1)) == 1
    hub.store.beat(hub.host, LEASE_SECONDS)
    queue.ahead(-HOUR_SECONDS)
    for _ in range(2):
        hub.store.beat(hub.host, LEASE_SECONDS)
    found = hub.look(9)
    assert len(found.jobs) == 0 and found.next_seconds and found.next_seconds <= 20
    queue.ahead(20.1)
    hub.store.beat(hub.host, LEASE_SECONDS)
    assert hub.store.recover() == 1
    assert len(hub.claim(9)) == 1
    left = hub.look(9).next_seconds
    assert left is not None and 19 < left <= 20
    assert queue.one("SELECT max(due_at) - (SELECT latest FROM clock) FROM jobs") > 2.9 * HOUR_SECONDS


def test_what_kills_its_hosts_is_put_aside(queue: Queue) -> None:
    """A lost run costs an attempt: a job cannot take one host after the other."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add(jobs("a", attempts=2))
    for life in range(2):
        hub.host = Host("h1", f"life {life}")
        hub.store.enlist(hub.host, LEASE_SECONDS, version="0", settings="")
        assert len(hub.claim()) == 1
        hub.store.retire(hub.host)
        other.store.recover()
    assert queue.rows("SELECT state FROM jobs") == [("aside",)]


def test_a_cancelled_job_of_a_dead_host_does_not_come_back(queue: Queue) -> None:
    """It leaves when its run is given up."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    hub.store.cancel([claimed.job])
    hub.store.retire(hub.host)
    assert other.store.recover() == 1
    assert queue.one("SELECT count(*) FROM jobs") == 0
    assert queue.rows("SELECT outcome FROM runs") == [("lost",)]


def test_everything_of_a_dead_host_comes_back_however_much(queue: Queue) -> None:
    """More jobs than one transaction takes, each of them once."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    hub.store.add(jobs(*(f"s{n % 7}" for n in range(450))))
    assert len(hub.claim(500)) == 450
    hub.store.retire(hub.host)
    assert other.store.recover() == 450
    assert queue.one("SELECT count(*) FROM runs WHERE outcome = 'lost'") == 450
    assert queue.one("SELECT sum(running) FROM sites") == 0


def test_a_hub_rings_itself_when_there_may_be_work(queue: Queue) -> None:
    """After jobs were added, a run ended, a site was resumed, a job retried; not after a claim or a beat."""
    hub = queue.hub()
    (receipt,) = hub.store.add(jobs("a", attempts=1))
    for rings in (
        lambda: hub.store.add(jobs("b")),
        lambda: hub.end(hub.claim()[0], "failed"),
        lambda: hub.store.pause("a", paused=False),
        lambda: hub.store.retry([receipt.job]),
    ):
        hub.rung.clear()
        rings()
        assert hub.rung.is_set()
    hub.rung.clear()
    hub.claim(3)
    hub.store.beat(hub.host, LEASE_SECONDS)
    assert not hub.rung.is_set()


@pytest.mark.parametrize("addresses", ["postgresql"], indirect=True, scope="session")
def test_other_hubs_hear_of_what_was_added_and_recovered_alone(queue: Queue) -> None:
    """One notification for a whole list, one for what was recovered, none for claims, ends and beats."""
    hub, other = queue.hub("h1"), queue.hub("h2")
    rings = threading.Semaphore(0)
    notices = Notices(queue.open(), rings.release)
    try:
        assert rings.acquire(timeout=10), "a hub that begins to listen looks once"
        hub.store.add(jobs(*["a"] * 9))
        assert rings.acquire(timeout=10)
        claimed = hub.claim(9)
        hub.end(claimed[0])
        hub.store.beat(hub.host, LEASE_SECONDS)
        hub.store.retire(hub.host)
        other.store.recover()
        assert rings.acquire(timeout=10)
        assert not rings.acquire(timeout=0.3)
    finally:
        notices.close()


@pytest.mark.parametrize("addresses", ["postgresql"], indirect=True, scope="session")
def test_a_hub_listens_again_after_its_connection_was_cut(queue: Queue) -> None:
    """It rings once it is back, for whatever was missed meanwhile, and hears what comes then."""
    hub = queue.hub("h1")
    rings = threading.Semaphore(0)
    notices = Notices(queue.open(), rings.release)
    try:
        assert rings.acquire(timeout=10)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN fleet_jobs'"
        assert queue.rows(cut) == [(True,)]
        assert rings.acquire(timeout=10)
        hub.store.add(jobs("a"))
        assert rings.acquire(timeout=10)
    finally:
        notices.close()
