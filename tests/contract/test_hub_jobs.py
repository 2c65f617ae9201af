"""The contract of the queue, on both engines: jobs come in once, are claimed in order, and end once."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from fleet.errors import DatabaseFailed
from fleet.outcomes import Ending
from hub.queue import endings, reading
from hub.queue.changing import change, differences
from hub.queue.repeat import Cron, Interval
from hub.queue.store import Turn
from hub.queue.values import Added, Cancelled, Job, Pace, Priority, Taken
from tests.queues import Queue, ending, jobs

DAY_SECONDS = 86_400.0


def test_a_key_is_added_once_done_or_not(queue: Queue) -> None:
    """In one list, in the next, and after the job has left: the same job every time; jobs without a key are all new."""
    hub = queue.hub()
    twice = [*jobs("b", key="k"), *jobs("a"), *jobs("b", key="k"), *jobs("a")]
    receipts = hub.store.add(twice)
    assert [one.added for one in receipts] == [Added.NEW, Added.NEW, Added.THERE, Added.NEW]
    assert receipts[0].job == receipts[2].job and len({one.job for one in receipts}) == 3
    assert [one.added for one in hub.store.add(jobs("elsewhere", key="k"))] == [Added.THERE]
    for claimed in hub.claim(9):
        hub.end(claimed)
    assert hub.store.add(jobs("b", key="k"))[0] == receipts[0].__class__(job=receipts[0].job, added=Added.DONE)
    assert queue.one("SELECT count(*) FROM jobs") == 0 and queue.one("SELECT count(*) FROM runs") == 3


def test_a_key_whose_job_leaves_meanwhile_is_done(queue: Queue) -> None:
    """Added again while the transaction of its end is under way, on another site too: done, not done twice."""
    hub, other = queue.hub(), queue.hub("h2")
    hub.store.add(jobs("a", key="k"))
    (claimed,) = hub.claim()
    added = []
    adding = threading.Thread(target=lambda: added.extend(other.store.add(jobs("b", key="k"))))
    database = queue.open()
    with database.engine.begin() as db:
        assert endings.finish(db, [ending(claimed)], database.now(db)) == [Taken.EFFECTIVE]
        adding.start()
        adding.join(0.3)
        assert adding.is_alive(), "it waits for the end of that transaction"
    adding.join(10)
    assert [one.added for one in added] == [Added.DONE]
    assert queue.one("SELECT count(*) FROM jobs") == 0


def test_long_lists_are_added_in_parcels(queue: Queue) -> None:
    """1,201 jobs of three sites: all there, in their order within a site."""
    hub = queue.hub()
    receipts = hub.store.add([Job(site=f"s{n % 3}", task="visit", key=f"k{n:05}") for n in range(1201)])
    assert len({one.job for one in receipts}) == queue.one("SELECT count(*) FROM jobs") == 1201
    keys = queue.rows("SELECT id, key FROM jobs")
    assert {key: job for job, key in keys} == {f"k{n:05}": one.job for n, one in enumerate(receipts)}


def test_order_is_priority_over_all_sites_then_age(queue: Queue) -> None:
    """High goes before normal before low, on whichever site; among equals the one that is due longest."""
    hub = queue.hub()
    order = [("a", Priority.LOW), ("a", Priority.NORMAL), ("b", Priority.HIGH), ("b", Priority.NORMAL)]
    for site, priority in order:
        hub.store.add(jobs(site, key=f"{site}{priority.name}", priority=priority))
    hub.store.add(jobs("a", key="later"))
    keys = dict(queue.rows("SELECT id, key FROM jobs"))
    got = [keys[hub.claim()[0].job] for _ in range(5)]
    assert got[0] == "bHIGH" and got[-1] == "aLOW" and got.index("aNORMAL") < got.index("later")


def test_nothing_begins_before_its_time(queue: Queue) -> None:
    """A job waits for its not-before, whatever its priority; the claim says when to look again; then it is there."""
    hub = queue.hub()
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    hub.store.add(jobs(*["a"] * 50, not_before=soon, priority=Priority.HIGH))
    found = hub.look()
    assert not found.jobs and found.next_seconds and 3500 < found.next_seconds <= 3600
    hub.store.add(jobs("a", priority=Priority.LOW, key="low"))
    assert len(hub.claim(3)) == 1, "what is due lies behind fifty that are not"
    queue.ahead(3600)
    hub.store.beat(hub.host, 3600)
    assert len(hub.claim(60)) == 50
    assert hub.look().next_seconds is None


def test_a_claim_takes_many_of_a_site_that_bears_it(queue: Queue) -> None:
    """Without an interval one claim fills all workers from one site, the best first; `most` is a bound."""
    hub = queue.hub(pace=Pace(interval_seconds=0, most=5))
    hub.store.add([*jobs("a", "a", "a", "a", priority=Priority.LOW), *jobs("a", "a", key=None)])
    claimed = hub.claim(16)
    assert [one.worker for one in claimed] == ["w1", "w2", "w3", "w4", "w5"]
    assert {one.job for one in claimed[:2]} == {5, 6}
    assert not hub.claim()
    hub.end(claimed[0])
    assert len(hub.claim(16)) == 1


def test_exits_are_had_or_waited_for(queue: Queue) -> None:
    """A job for an exit goes to who can have it, others pass it by; a claim without a list takes all."""
    hub = queue.hub()
    hub.store.add([*jobs("a", "a", exit="kr"), *jobs("b", exit="jp"), *jobs("c")])
    assert [one.site for one in hub.claim(9, ["de"])] == ["c"]
    found = hub.look(9, ["de"])
    assert not found.jobs and found.next_seconds, "what wakes for others is no reason to ask at once"
    assert {(one.site, one.exit) for one in hub.claim(9, ["kr", "de"])} == {("a", "kr")}
    assert [one.exit for one in hub.claim(9)] == ["jp"]


def test_the_same_exit_as_before(queue: Queue) -> None:
    """A job that wants it comes out where its first run did, from the second run on."""
    hub = queue.hub()
    hub.store.add(jobs("a", same_exit=True, repeat=Interval(60)))
    hub.end(hub.claim(1, ["kr"])[0], exit="kr")
    queue.ahead(61)
    hub.store.beat(hub.host, 60)
    assert not hub.claim(1, ["jp"])
    assert [one.exit for one in hub.claim(1, ["kr", "jp"])] == ["kr"]


def test_a_run_ends_once_and_its_job_leaves_with_it(queue: Queue) -> None:
    """The first telling is in effect, the same once more is repeated, another outcome or fence is stale."""
    hub = queue.hub()
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    assert hub.end(claimed, answer={"price": 3}) is Taken.EFFECTIVE
    assert queue.rows("SELECT job, fence, outcome, answer, worker, host FROM runs") == [
        (claimed.job, 1, "good", '{"price": 3}', "w1", "h1")
    ]
    assert queue.one("SELECT count(*) FROM jobs") == 0
    told = [ending(claimed), ending(claimed, "failed"), ending(claimed), ending(claimed)]
    assert hub.store.finish(told) == [Taken.REPEATED, Taken.STALE, Taken.REPEATED, Taken.REPEATED]
    assert queue.one("SELECT count(*) FROM runs") == 1


def test_one_list_may_hold_an_end_twice(queue: Queue) -> None:
    """Two ends of one run in one list: one is in effect."""
    hub = queue.hub()
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    assert hub.store.finish([ending(claimed), ending(claimed)]) == [Taken.EFFECTIVE, Taken.REPEATED]


def test_failures_are_tried_again_later_then_put_aside(queue: Queue) -> None:
    """Each failure waits longer; when the attempts are spent the job lies aside, with its runs, until it is retried."""
    hub = queue.hub()
    (receipt,) = hub.store.add(jobs("a", attempts=3))
    waits = []
    for _ in range(3):
        (claimed,) = hub.claim()
        assert hub.end(claimed, "failed", error="ERR_EMPTY_RESPONSE") is Taken.EFFECTIVE
        waits.append(hub.look().next_seconds)
        queue.ahead(waits[-1] or 0)
        hub.store.beat(hub.host, 60)
    assert waits[0] and waits[1] and waits[0] < 31 and 29 < waits[1] < 61 and waits[2] is None
    assert queue.rows("SELECT state, fence FROM jobs") == [("aside", 3)]
    assert queue.one("SELECT count(*) FROM runs WHERE outcome = 'failed'") == 3
    assert hub.store.retry([receipt.job, 99]) == {receipt.job}
    (claimed,) = hub.claim()
    assert claimed.fence == 4
    hub.end(claimed)
    assert queue.one("SELECT count(*) FROM jobs") == 0


@pytest.mark.parametrize("outcome", ["good", "empty", "refused", "absent"])
def test_an_answer_is_final(queue: Queue, outcome: Ending) -> None:
    """What a site answers is kept, refusals too: the job leaves, attempts or not."""
    hub = queue.hub()
    hub.store.add(jobs("a", attempts=9))
    hub.end(hub.claim()[0], outcome)
    assert queue.one("SELECT count(*) FROM jobs") == 0


def test_a_job_repeats_by_interval_and_leaves_out_what_was_missed(queue: Queue) -> None:
    """After a run of two and a half intervals it is due at the next whole one, with all its attempts."""
    hub = queue.hub()
    hub.store.add(jobs("a", repeat=Interval(600), attempts=2))
    (claimed,) = hub.claim()
    hub.store.beat(hub.host, 9000)
    hub.end(claimed, "failed")
    queue.ahead(60)
    (claimed,) = hub.claim()
    queue.ahead(1440)
    hub.end(claimed, "failed")
    found = hub.look().next_seconds
    assert found and 200 < found <= 300
    assert queue.rows("SELECT state, attempts_left FROM jobs") == [("ready", 2)]


def test_a_job_repeats_by_cron_in_its_zone(queue: Queue) -> None:
    """The first run waits for the first time, in the job's own zone; each end sets the next."""
    hub = queue.hub()
    hub.store.add(jobs("a", repeat=Cron("30 9 * * *", "Asia/Seoul")))
    for _ in range(2):
        found = hub.look()
        assert not found.jobs and found.next_seconds and found.next_seconds <= DAY_SECONDS
        queue.ahead(found.next_seconds + 0.01)
        hub.store.beat(hub.host, 60)
        (claimed,) = hub.claim()
        assert datetime.fromtimestamp(claimed.began_at, timezone.utc).strftime("%H:%M") == "00:30"
        hub.end(claimed)


def test_a_cancelled_job_leaves_at_once_or_with_its_run(queue: Queue) -> None:
    """One that waits is gone; one that runs is told, ends with its run whatever comes of it, and repeats no more."""
    hub = queue.hub()
    first, second = (one.job for one in hub.store.add(jobs("a", "b", repeat=Interval(60))))
    (claimed,) = hub.claim()
    running = claimed.job
    waiting = second if running == first else first
    assert hub.store.cancel([waiting, running, 99]) == {
        waiting: Cancelled.GONE,
        running: Cancelled.TOLD,
        99: Cancelled.UNKNOWN,
    }
    assert {job: one[:3] for job, one in hub.store.held(hub.host).items()} == {running: (1, "w1", True)}
    assert hub.end(claimed, "failed") is Taken.EFFECTIVE
    assert queue.one("SELECT count(*) FROM jobs") == 0
    assert sorted(queue.rows("SELECT job, fence, outcome FROM runs")) == sorted(
        [(waiting, 1, "cancelled"), (running, 1, "failed")]
    )
    assert hub.store.cancel([waiting]) == {waiting: Cancelled.UNKNOWN}


def test_the_schema_itself_refuses_the_worst(queue: Queue) -> None:
    """A second end of one lease, more runs of a site than it bears, a lease without a host: it needs no code."""
    hub = queue.hub(pace=Pace(interval_seconds=0, most=1))
    hub.store.add(jobs("a", "a"))
    hub.end(hub.claim()[0])
    for statement in (
        "INSERT INTO runs SELECT * FROM runs",
        "UPDATE sites SET running = 2",
        "UPDATE sites SET running = -1",
        "UPDATE jobs SET state = 'leased'",
    ):
        with pytest.raises(DatabaseFailed):
            queue.change(statement)


def test_a_job_is_changed_in_its_place(queue: Queue) -> None:
    """It keeps its number and its history; one that runs goes on as it began, and to no other site meanwhile."""
    hub = queue.hub()
    (receipt,) = hub.store.add(jobs("a", key="k", repeat=Interval(60)))

    def become(site: str, **more: Any) -> bool:
        (job,) = jobs(site, key="k", **more)
        return hub.store.turn(lambda turn: change(turn.db, receipt.job, job, turn.pace, turn.now))

    (claimed,) = hub.claim()
    assert not become("b", repeat=Interval(60))
    assert become("a", repeat=Interval(600), arguments={"n": 2}, attempts=7)
    assert hub.end(claimed) is Taken.EFFECTIVE
    row = (receipt.job, "ready", 7, 600.0)
    assert queue.rows("SELECT id, state, attempts_left, interval_seconds FROM jobs") == [row]
    assert become("b") and [one.site for one in hub.claim()] == ["b"]
    assert not hub.store.turn(lambda turn: change(turn.db, 999, jobs("a")[0], turn.pace, turn.now))
    assert dict(queue.rows("SELECT name, running FROM sites")) == {"a": 0, "b": 1}


def _changed(number: int, to: Job, turn: Turn) -> bool:
    return change(turn.db, number, to, turn.pace, turn.now)


def test_a_job_that_is_changed_keeps_the_exit_of_its_first_run(queue: Queue) -> None:
    """Where it is to be the same; one that names another goes there."""
    hub = queue.hub()
    same = jobs("a", key="k", same_exit=True, repeat=Interval(60))[0]
    (number,) = (one.job for one in hub.store.add([same]))
    hub.end(hub.claim()[0], exit="kr1.example")
    there = reading.job(queue.database, number)
    assert there and there["exit"] == "kr1.example" and differences(there, same) == []
    for wanted, where in (
        (replace(same, attempts=7), "kr1.example"),
        (replace(same, same_exit=False, exit="JP"), "JP"),
    ):
        assert hub.store.turn(partial(_changed, number, wanted))
        assert (reading.job(queue.database, number) or {})["exit"] == where
