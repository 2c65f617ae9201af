"""How the queue's queries find their rows, on both engines, with nothing, with a thousand rows and with a million.

Statistics are taken when the tables are empty and never again: a plan must not need them. A million rows take a minute:
`--rows 1000000`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from fleet.outcomes import Ending
from hub.queue import reading, rollups, watching
from hub.queue.values import Job
from tests.queues import FREE, Hub, Queue, ending, jobs

SITES = 400
MOST_PAGES = 1500
"""That one statement for sixteen jobs may look at (8 KiB each): three looks at a tree for each job of each group."""
MOST_STEPS = 60_000
"""Of SQLite's machine, for the same."""
TABLES = "jobs|runs|sites|rollups"
WHOLE = re.compile(
    rf'"Seq Scan"[^{{]*"Relation Name": "(?:{TABLES})"|SCAN (?:{TABLES}|first|head|later|second)\b(?! USING)'
)
NUMBERS = {
    "sqlite": "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < :rows) SELECT n FROM c)",
    "postgresql": "(SELECT generate_series(0, :rows - 1) AS n)",
}
SITES_FULL = f"""INSERT INTO sites SELECT 's' || n, 0, 1, 9, 9, 0, 0, false, 1, 1.0 + n, NULL
FROM {{numbers}} AS numbers WHERE n < {SITES}"""
JOBS_FULL = f"""INSERT INTO jobs (key, site, task, arguments, priority, exit, same_exit, targets, attempts,
attempts_left, scheduled_at, due_at, state, fence, cancelled)
SELECT 'key' || n, 's' || (n % {SITES}), 'visit', '{{{{}}}}', (n / {SITES}) % 2,
CASE (n / {SITES}) % 8 WHEN 3 THEN 'kr' ELSE '' END, false, '[]', 3, 3,
n, CASE (n / {SITES}) % 2 WHEN 0 THEN 9e12 ELSE n END, 'ready', 0, false FROM {{numbers}} AS numbers"""
RUNS_FULL = """INSERT INTO runs (job, fence, key, site, task, arguments, ended_at, outcome)
SELECT -n, 1, 'old' || n, 's', 'visit', '{{}}', n, 'good' FROM {numbers} AS numbers"""


class Asked(NamedTuple):
    """A statement that was run: how it was planned, and its work in pages or steps."""

    statement: str
    plan: str
    work: int


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> list[int]:
    """How full the tables are, one after the other."""
    return [0, 1000, *([request.config.getoption("--rows")] if request.config.getoption("--rows") else [])]


@contextmanager
def watched(hub: Hub) -> Iterator[list[Asked]]:
    """Every statement that the queue runs for HUB, but insertions: they look for nothing."""
    found: list[Asked] = []
    busy = False

    def before(db: sa.Connection, _: object, statement: str, values: Any, *_rest: object) -> None:
        nonlocal busy
        if busy or re.match(r"\s*(BEGIN|PRAGMA|SAVEPOINT|EXPLAIN|INSERT)", statement):
            return
        busy = True
        try:
            look = _sqlite if db.dialect.name == "sqlite" else _postgresql
            found.append(Asked(statement, *look(db, statement, values[0] if isinstance(values, list) else values)))
        finally:
            busy = False

    engine = hub.database.engine
    sa.event.listen(engine, "before_cursor_execute", before)
    try:
        yield found
    finally:
        sa.event.remove(engine, "before_cursor_execute", before)


def _sqlite(db: sa.Connection, statement: str, values: Any) -> tuple[str, int]:
    own = db.connection.driver_connection
    assert own is not None
    plan = "\n".join(row[3] for row in own.execute(f"EXPLAIN QUERY PLAN {statement}", values))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    own.execute("SAVEPOINT look")
    own.set_progress_handler(count, 100)
    own.execute(statement, values).fetchall()
    own.set_progress_handler(None, 0)
    own.execute("ROLLBACK TO look")
    return plan, steps


def _postgresql(db: sa.Connection, statement: str, values: Any) -> tuple[str, int]:
    own = db.connection.driver_connection
    assert own is not None
    own.execute("SAVEPOINT look")
    (found,) = own.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values).fetchone()
    own.execute("ROLLBACK TO SAVEPOINT look")
    root = found[0]["Plan"]
    return json.dumps(root), root["Shared Hit Blocks"] + root["Shared Read Blocks"]


def everything(hub: Hub) -> None:
    """Each thing that a hub does with the queue while it works."""
    hub.store.add([Job(site=f"s{n}", task="visit", key=f"new{n}") for n in range(8)])
    hub.store.add(jobs(*(f"t{n}" for n in range(8))))
    claimed = [*hub.claim(16), *hub.claim(4, ["kr"]), *hub.claim(4, ["nowhere"])]
    assert len(claimed) >= 20 or len(claimed) == 16
    outcomes: list[Ending] = ["good", "failed", "limited", "lost"]
    hub.store.finish([ending(one, outcomes[n % 4]) for n, one in enumerate(claimed[:16])])
    hub.store.finish([ending(one) for one in claimed[:3]])
    ids = [one.job for one in claimed]
    hub.store.cancel(ids)
    hub.store.retry(ids)
    hub.store.pause("s1", paused=True)
    hub.store.pause("s1", paused=False)
    hub.store.held(hub.host)
    hub.store.beat(hub.host, 60)
    hub.store.recover()
    hub.store.retire(hub.host)
    hub.store.recover()
    looked_for(hub)


def looked_for(hub: Hub) -> None:
    """Each list that people look at, of what is rare and of what is not there."""
    newest = reading.page_of_runs(hub.database, 50, brief=True)
    last = (newest[-1]["job"], newest[-1]["fence"])
    for outcome in (None, "good", "limited", "absent"):
        for site in (None, "s", "s1", "nowhere"):
            for before in (None, last):
                reading.page_of_runs(hub.database, 50, outcome=outcome, site=site, before=before)
    for state in (None, *reading.STATES):
        for site in (None, "s1", "nowhere"):
            reading.page_of_jobs(hub.database, 50, state=state, site=site)
    reading.done(hub.database, ["old1", "nothing"])
    watching.watches(hub.database)
    hub.database.run(lambda db: rollups.counts(db, "hour", 0.0, "s1"), reading=True)


def test_a_missing_index_of_outcomes_is_seen(queue: Queue) -> None:
    """The control for lists: without its index a rare outcome is looked for in all runs."""
    fill(queue, 20_000)
    hub = queue.hub()
    works = []
    for index in ("runs_outcome", "runs_site"):
        with watched(hub) as found:
            reading.page_of_runs(hub.database, 50, outcome="limited")
        works.append(max(one.work for one in found))
        queue.change(f"DROP INDEX {index}")
    assert works[1] > 10 * works[0], works


def test_every_query_finds_its_rows_by_an_index(queue: Queue, rows: list[int]) -> None:
    """No table is read as a whole, and the work of a statement is bounded, however much there is."""
    queue.change("ANALYZE")
    for count in rows:
        fill(queue, count)
        hub = queue.hub(f"h{count}", FREE)
        with watched(hub) as found:
            everything(hub)
        most = MOST_STEPS if queue.database.name == "sqlite" else MOST_PAGES
        for one in found:
            assert not WHOLE.search(one.plan), f"{count} rows: {one.statement}\n{one.plan}"
            assert one.work <= most, f"{count} rows: {one.work}: {one.statement}\n{one.plan}"
        print(queue.database.name, count, max((one.work, one.statement[:60]) for one in found))


def test_a_missing_index_is_seen(queue: Queue) -> None:
    """The control: without the index of what is ready, the same look finds a table that is read as a whole."""
    for index in ("jobs_ready", "jobs_site", "jobs_state"):
        queue.change(f"DROP INDEX {index}")
    fill(queue, 1000)
    hub = queue.hub()
    with watched(hub) as found:
        hub.claim(16)
    assert any(WHOLE.search(one.plan) for one in found)


def fill(queue: Queue, count: int) -> None:
    """Make the tables COUNT rows long."""
    if not count:
        return
    numbers = NUMBERS[queue.database.name]
    for table in ("jobs", "runs", "sites"):
        queue.change(f"DELETE FROM {table}")

    def work(db: sa.Connection) -> None:
        if db.dialect.name == "postgresql":
            db.execute(sa.text("SET LOCAL statement_timeout = 0"))
        for statement in (SITES_FULL, JOBS_FULL, RUNS_FULL):
            db.execute(sa.text(statement.format(numbers=numbers)), {"rows": count})

    queue.database.run(work)
