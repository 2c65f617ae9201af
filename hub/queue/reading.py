"""What is in the queue, and what came of it, for people and their programs: nothing here changes anything.

Long lists come in pages that begin after the last entry of the one before: they cost the same however long the list is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.db import Database, Many, among
from hub.queue.schema import jobs, pictures, runs

PAGE = 500
_JSON = ("arguments", "answer", "details", "targets")
_RUN = (runs.c.ended_at, runs.c.job, runs.c.fence)
_BRIEF = [
    *(column for column in runs.c if column.name not in ("arguments", "error", "answer", "details")),
    sa.func.substr(runs.c.error, 1, 200).label("error"),
]
"""Of a run, without what is long."""
Entry = Mapping[str, Any]
"""A row, its columns by name; what is JSON in it is read."""


def page_of_jobs(
    database: Database, count: int, *, after: int = 0, state: str | None = None, site: str | None = None
) -> list[Entry]:
    """At most COUNT jobs that are not done, by number."""
    query = sa.select(jobs).where(jobs.c.id > after).order_by(jobs.c.id).limit(count)
    for column, wanted in ((jobs.c.state, state), (jobs.c.site, site)):
        query = query if wanted is None else query.where(column == wanted)
    return _entries(database, query)


def job(database: Database, number: int) -> Entry | None:
    """The job of that NUMBER, where it is not done."""
    return next(iter(_entries(database, sa.select(jobs).where(jobs.c.id == number))), None)


def jobs_of(database: Database, prefix: str) -> dict[str, Entry]:
    """By key, the jobs whose keys begin with PREFIX."""
    query = sa.select(jobs).where(jobs.c.key.startswith(prefix, autoescape=True)).order_by(jobs.c.key)
    return {row["key"]: row for row in _entries(database, query)}


def done(database: Database, keys: Sequence[str]) -> set[str]:
    """Which of KEYS have runs."""
    query = sa.select(runs.c.key).distinct().where(among(runs.c.key, sa.bindparam("keys", type_=Many(sa.Text))))
    return set(database.run(lambda db: db.scalars(query, {"keys": keys}).all(), reading=True))


def runs_of(database: Database, number: int) -> list[Entry]:
    """The runs of a job, in their order."""
    return _entries(database, sa.select(runs).where(runs.c.job == number).order_by(runs.c.fence))


def runs_until(database: Database, number: int, fence: int, count: int, *, brief: bool = False) -> list[Entry]:
    """At most COUNT runs of a job, that of FENCE and those before it, the newest first."""
    query = sa.select(*_BRIEF) if brief else sa.select(runs)
    query = query.where(runs.c.job == number, runs.c.fence <= fence).order_by(runs.c.fence.desc()).limit(count)
    return _entries(database, query)


def page_of_runs(
    database: Database,
    count: int,
    *,
    before: tuple[int, int] | None = None,
    outcome: str | None = None,
    site: str | None = None,
    brief: bool = False,
) -> list[Entry]:
    """At most COUNT runs, the newest first; BEFORE that of this job and fence. BRIEF: without what is long."""
    query = (
        (sa.select(*_BRIEF) if brief else sa.select(runs)).order_by(*(column.desc() for column in _RUN)).limit(count)
    )
    if before is not None:
        its = sa.select(*_RUN).where(runs.c.job == before[0], runs.c.fence == before[1])
        if not (found := database.run(lambda db: db.execute(its).one_or_none(), reading=True)):
            return []
        query = query.where(sa.tuple_(*_RUN) < sa.tuple_(*map(sa.literal, found)))
    for column, wanted in ((runs.c.outcome, outcome), (runs.c.site, site)):
        query = query if wanted is None else query.where(column == wanted)
    return _entries(database, query)


def all_runs(database: Database, since: float) -> Iterator[Entry]:
    """The runs that have ended since SINCE, the oldest first; however many, in little memory."""
    after: Sequence[Any] = (since, 0, 0)
    query = sa.select(runs).order_by(*_RUN).limit(PAGE)
    while found := _entries(database, query.where(sa.tuple_(*_RUN) > sa.tuple_(*map(sa.literal, after)))):
        yield from found
        after = [found[-1][column.name] for column in _RUN]


def pictures_of(database: Database, number: int, fence: int) -> list[Entry]:
    """The pictures of a run."""
    return _entries(database, sa.select(pictures).where(pictures.c.job == number, pictures.c.fence == fence))


def _entries(database: Database, query: sa.Select[Any]) -> list[Entry]:
    def entry(row: Any) -> Entry:
        values = dict(row._mapping)
        return {name: json.loads(it) if name in _JSON and it is not None else it for name, it in values.items()}

    return database.run(lambda db: [entry(row) for row in db.execute(query)], reading=True)
