"""The contract of the outbox, on both engines: what has ended reaches its targets at least once, none forgotten."""

from __future__ import annotations

import pytest

from fleet.errors import DatabaseFailed
from fleet.outcomes import Ending
from hub.delivery.outbox import LONGEST_BACK_OFF_SECONDS, Delivery, Outbox, recorder
from hub.queue.repeat import Interval
from hub.queue.store import Store
from hub.queue.values import Finished, Picture, Taken
from tests.queues import FREE, Hub, Queue, ending, jobs

SUM = "0123456789abcdef" * 4
PICTURE = Picture(name="screenshot", sha256=SUM, size_bytes=7)


@pytest.fixture
def hub(queue: Queue) -> Hub:
    """A hub that records deliveries with the ends of runs."""
    return recording(queue, "h1")


def recording(queue: Queue, name: str) -> Hub:
    """The same under another NAME."""
    made = queue.hub(name)
    made.store = Store(made.database, made.rung.set, FREE, recorder(name))
    return made


@pytest.fixture
def box(hub: Hub) -> Outbox:
    """Its outbox."""
    return Outbox(hub.database, hub.host.name)


def ended(hub: Hub, *targets: str) -> Finished:
    """A run that has ended and goes to TARGETS."""
    hub.store.add(jobs("a", arguments={"keyword": "키보드"}))
    (claimed,) = hub.claim()
    end = ending(claimed, exit="kr", answer={"rank": 3}, pictures=(PICTURE,), targets=targets)
    assert hub.store.finish([end]) == [Taken.EFFECTIVE]
    return end


def due(box: Outbox) -> list[Delivery]:
    """What is to be sent now."""
    return box.due(100)[0]


def test_an_end_is_in_the_outbox_with_all_that_a_target_needs(hub: Hub, box: Outbox) -> None:
    """Once for each target, with answer, arguments and pictures; a repeated report adds nothing."""
    end = ended(hub, "s3", "owner", "owner")
    assert hub.store.finish([end]) == [Taken.REPEATED]
    found = due(box)
    assert sorted(one.target for one in found) == ["owner", "s3"]
    for one in found:
        assert (one.job, one.fence, one.outcome, one.exit, one.tries) == (end.job, end.fence, "good", "kr", 0)
        assert (one.arguments, one.answer, one.pictures) == ({"keyword": "키보드"}, {"rank": 3}, (PICTURE,))


def test_an_end_and_its_deliveries_are_one_transaction(hub: Hub, box: Outbox, queue: Queue) -> None:
    """If the outbox cannot be written, the run has not ended either, so its worker is not told that it is safe."""
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    queue.change("ALTER TABLE outbox RENAME TO away")
    with pytest.raises(DatabaseFailed):
        hub.end(claimed, targets=("s3",))
    queue.change("ALTER TABLE away RENAME TO outbox")
    assert queue.one("SELECT count(*) FROM runs") == 0
    assert hub.end(claimed, targets=("s3",)) is Taken.EFFECTIVE
    assert len(due(box)) == 1


def test_a_stale_end_delivers_nothing(hub: Hub, box: Outbox, queue: Queue) -> None:
    """If a run was taken from its host, another host delivers it."""
    hub.store.add(jobs("a"))
    (claimed,) = hub.claim()
    hub.store.retire(hub.host)
    queue.hub("h2").store.recover()
    assert hub.end(claimed, pictures=(PICTURE,), targets=("s3",)) is Taken.STALE
    assert not due(box) and queue.one("SELECT count(*) FROM pictures") == 0


def test_what_has_arrived_leaves_once_with_its_answer(hub: Hub, box: Outbox, queue: Queue) -> None:
    """It is kept where it lies now; told again, or after another hub of the host told it, nothing changes."""
    end = ended(hub, "s3")
    (one,) = due(box)
    for _ in range(2):
        box.arrived(one.id, {"address": "https://pictures.example/1"})
    assert box.due(9) == ([], None)
    assert queue.rows("SELECT job, fence, target, answer FROM delivered") == [
        (end.job, end.fence, "s3", '{"address": "https://pictures.example/1"}')
    ]
    box.later(one.id, "too late")
    box.refused(one.id, "too late")
    assert box.due(9) == ([], None)


def test_what_did_not_arrive_is_tried_ever_more_seldom_and_for_ever(hub: Hub, box: Outbox, queue: Queue) -> None:
    """A target that is down for days costs one try every 15 minutes, and gets everything in the end."""
    ended(hub, "s3")
    waits = []
    for tries in range(30):
        (one,) = due(box)
        assert one.tries == tries
        box.later(one.id, "connection refused")
        found, wait = box.due(9)
        assert not found and wait is not None
        waits.append(wait)
        queue.ahead(wait + 0.001)
    assert waits[0] <= 5 and 400 < waits[-1] <= LONGEST_BACK_OFF_SECONDS
    assert len(due(box)) == 1


def test_a_target_says_itself_how_long_to_wait(hub: Hub, box: Outbox) -> None:
    """Its Retry-After is a lower bound."""
    ended(hub, "s3")
    box.later(due(box)[0].id, "503", wait_seconds=120)
    wait = box.due(9)[1]
    assert wait is not None and 110 < wait <= 120


def test_what_is_refused_lies_aside_until_somebody_wants_it_sent(hub: Hub, box: Outbox, queue: Queue) -> None:
    """It is counted, delays nothing else, and is sent again on request."""
    for target in ("owner", "s3"):
        ended(hub, target)
    refused = next(one for one in due(box) if one.target == "owner")
    box.refused(refused.id, "400 \0: no such id")
    assert [one.target for one in due(box)] == ["s3"]
    queue.ahead(50)
    shown = {one.target: (one.waiting, one.aside, round(one.oldest_seconds / 50)) for one in box.backlog()}
    assert shown == {"owner": (0, 1, 0), "s3": (1, 0, 1)}
    assert {one.target: one.why for one in box.backlog()} == {"owner": "400 \ufffd: no such id", "s3": None}
    assert box.again() == 2
    assert sorted(one.target for one in due(box)) == ["owner", "s3"]


def test_each_host_sends_its_own(hub: Hub, box: Outbox, queue: Queue) -> None:
    """Only that host has the pictures."""
    ended(hub, "s3")
    assert Outbox(queue.open(), "h2").due(9) == ([], None)
    assert len(due(box)) == 1


def test_a_hub_that_dies_while_it_sends_sends_again(hub: Hub, box: Outbox) -> None:
    """Nothing was recorded: the next life sends the same again, and the target recognises the run."""
    ended(hub, "s3")
    first = due(box)
    assert due(Outbox(hub.database, hub.host.name)) == first


def test_a_job_is_answered_once_by_the_run_that_ends_it(hub: Hub, box: Outbox, queue: Queue) -> None:
    """Not by what is tried again, neither a failure nor a `limited`; by the last failure as well as by a good run."""
    hub.store.add(jobs("a", attempts=2, targets=("owner",)))
    tried: list[tuple[Ending, int]] = [("failed", 0), ("limited", 0), ("failed", 1)]
    for outcome, answers in tried:
        (claimed,) = hub.claim()
        hub.end(claimed, outcome, error="TIMEOUT")
        assert len(due(box)) == answers
        queue.ahead(100)
        hub.store.beat(hub.host, 60)
    assert [(one.fence, one.outcome, one.error) for one in due(box)] == [(3, "failed", "TIMEOUT")]


def test_a_repeating_job_answers_each_time(hub: Hub, box: Outbox, queue: Queue) -> None:
    """Every run that is not retried is an answer."""
    hub.store.add(jobs("a", repeat=Interval(60), targets=("owner",)))
    for fence in (1, 2):
        hub.end(hub.claim()[0])
        queue.ahead(61)
        hub.store.beat(hub.host, 60)
        assert [one.fence for one in due(box)] == list(range(1, fence + 1))


def test_what_nobody_did_is_answered_too(hub: Hub, box: Outbox, queue: Queue) -> None:
    """A job that was cancelled before it ran, and one that was lost with its host for good: by who found it."""
    other = recording(queue, "h2")
    first, _ = hub.store.add(jobs("a", "b", attempts=1, targets=("owner",)))
    other.store.cancel([first.job])
    assert [one.site for one in hub.claim(9)] == ["b"]
    hub.store.retire(hub.host)
    other.store.recover()
    assert not due(box)
    assert sorted(one.outcome for one in due(Outbox(other.database, "h2"))) == ["cancelled", "lost"]


def test_what_lies_aside_was_answered_when_it_came_there(hub: Hub, box: Outbox) -> None:
    """If it is cancelled after that, it is not answered again."""
    (receipt,) = hub.store.add(jobs("a", attempts=1, targets=("owner",)))
    hub.end(hub.claim()[0], "failed")
    hub.store.cancel([receipt.job])
    assert [one.outcome for one in due(box)] == ["failed"]
