"""Lists of jobs and runs, page by page, on both engines."""

from __future__ import annotations

from fleet.outcomes import Ending
from hub.queue import reading
from tests.queues import Queue, jobs

MANY = 7


def test_pages_of_jobs_hold_each_once(queue: Queue) -> None:
    """In their order; by state and site where that is asked."""
    hub = queue.hub()
    numbers = [one.job for one in hub.store.add(jobs(*"ababa"))]
    first = reading.page_of_jobs(queue.database, 3)
    rest = reading.page_of_jobs(queue.database, 3, after=numbers[2])
    assert [one["id"] for one in [*first, *rest]] == numbers
    assert len(reading.page_of_jobs(queue.database, 9, site="b", state="ready")) == 2
    assert reading.page_of_jobs(queue.database, 9, state="aside") == []
    assert (reading.job(queue.database, numbers[1]) or {})["site"] == "b"
    assert reading.job(queue.database, 99) is None


def test_pages_of_runs_hold_each_once(queue: Queue) -> None:
    """The newest first for people, the oldest first for programs, also those that have ended in the same moment."""
    hub = queue.hub()
    hub.store.add(jobs(*"ab" * MANY))
    outcomes: list[Ending] = ["good", "empty"]
    for one in hub.claim(2 * MANY):
        hub.end(one, outcomes[one.job % 2], answer={"n": one.job}, details={"requests": 1})
    queue.change("UPDATE runs SET ended_at = 1000 + job / 4")
    found: list[reading.Entry] = []
    while page := reading.page_of_runs(
        queue.database, 3, before=(int(str(found[-1]["job"])), int(str(found[-1]["fence"]))) if found else None
    ):
        found += page
    assert [one["job"] for one in found] == sorted((one["job"] for one in found), reverse=True)
    assert len(found) == 2 * MANY
    assert list(reading.all_runs(queue.database, 0)) == found[::-1]
    assert len(list(reading.all_runs(queue.database, 1002))) == len([one for one in found if one["ended_at"] >= 1002])
    assert {one["site"] for one in reading.page_of_runs(queue.database, 99, outcome="good")} == {"b"}
    assert len(reading.page_of_runs(queue.database, 99, outcome="empty", site="a")) == MANY
    assert reading.page_of_runs(queue.database, 9, before=(99, 1)) == []


def test_an_export_of_many_runs_takes_pages(queue: Queue) -> None:
    """Each run once, over the borders of pages."""
    queue.change(
        "INSERT INTO runs (job, fence, site, task, arguments, ended_at, outcome) "
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1201) "
        "SELECT n, 1, 'a', 'visit', '{}', n / 7, 'good' FROM c"
    )
    assert [one["job"] for one in reading.all_runs(queue.database, 0)] == list(range(1, 1202))
