"""Reads the queue and its history for people and their programs; changes nothing.

A page of a long list begins after the last entry of the previous one, so its cost does not depend on the list's length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.db import Database
from fleet.outcomes import ENDINGS
from hub.queue.adding import DONE
from hub.queue.schema import delivered, in_order, jobs, pictures, runs

PAGE = 500
STATES = ("ready", "leased", "aside")
_JSON = ("arguments", "answer", "details", "targets")
_RUN = (runs.c.ended_at, runs.c.job, runs.c.fence)
_NEWEST_FIRST = [column.desc() for column in _RUN]
_SHORT_ANSWER = 20_000
_MOST_AROUND = 200
_LONGEST_RUN_SECONDS = 3600.0
Entry = Mapping[str, Any]
"""A row, its columns by name; JSON is decoded."""


def _brief(error: int) -> list[sa.ColumnElement[Any]]:
    """The short columns of a run, and the first ERROR characters of its error."""
    long = ("arguments", "error", "answer", "details")
    return [*(one for one in runs.c if one.name not in long), sa.func.substr(runs.c.error, 1, error).label("error")]


_BRIEF, _TOLD = _brief(200), _brief(1000)


def page_of_jobs(
    database: Database, count: int, *, after: int = 0, state: str | None = None, site: str | None = None
) -> list[Entry]:
    """At most COUNT jobs that are not done, by number."""
    picked = sa.select(jobs.c.id).where(jobs.c.id > after).order_by(jobs.c.id).limit(count)
    if site is not None:
        states = STATES if state is None else (state,)
        picked = _first([picked.where(jobs.c.site == site, jobs.c.state == one) for one in states], count)
    elif state is not None:
        picked = picked.where(jobs.c.state == state)
    keys = picked.cte("picked")
    return _entries(database, sa.select(jobs).join(keys, jobs.c.id == keys.c.id).order_by(jobs.c.id))


def job(database: Database, number: int) -> Entry | None:
    """The job of that NUMBER, unless it is done."""
    return next(iter(_entries(database, sa.select(jobs).where(jobs.c.id == number))), None)


def jobs_of(database: Database, prefix: str) -> dict[str, Entry]:
    """By key, the jobs whose keys begin with PREFIX."""
    query = sa.select(jobs).where(jobs.c.key.startswith(prefix, autoescape=True)).order_by(jobs.c.key)
    return {row["key"]: row for row in _entries(database, query)}


def done(database: Database, keys: Sequence[str]) -> set[str]:
    """Which of KEYS have runs."""
    rows = database.run(lambda db: db.execute(DONE, {"keys": list(keys)}).all(), reading=True)
    return {key for key, job in rows if job is not None}


def runs_of(database: Database, number: int) -> list[Entry]:
    """The runs of a job, in their order."""
    return _entries(database, sa.select(runs).where(runs.c.job == number).order_by(runs.c.fence))


def runs_until(database: Database, number: int, fence: int, count: int, *, brief: bool = False) -> list[Entry]:
    """At most COUNT runs of a job, up to that of FENCE, the newest first."""
    query = sa.select(*_BRIEF) if brief else sa.select(runs)
    query = query.where(runs.c.job == number, runs.c.fence <= fence).order_by(runs.c.fence.desc()).limit(count)
    return _entries(database, query)


def runs_with_answers(database: Database, number: int, count: int) -> list[Entry]:
    """The newest COUNT runs of a job, with their answers if these are short."""
    short = sa.case((sa.func.length(runs.c.answer) <= _SHORT_ANSWER, runs.c.answer)).label("answer")
    query = sa.select(*_TOLD, short).where(runs.c.job == number).order_by(runs.c.fence.desc()).limit(count)
    return _entries(database, query)


def runs_around(database: Database, begins: float, ends: float) -> list[Entry]:
    """At most _MOST_AROUND runs of that time, by their end, without their answers."""
    lasted = (runs.c.ended_at >= begins, runs.c.ended_at <= ends + _LONGEST_RUN_SECONDS)
    began = sa.func.coalesce(runs.c.began_at, runs.c.ended_at) <= ends
    query = sa.select(*_TOLD, runs.c.details).where(*lasted, began).order_by(runs.c.ended_at).limit(_MOST_AROUND)
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
    """At most COUNT runs, the newest first, BEFORE the run of this job and fence. BRIEF: without long columns."""
    picked = sa.select(*_RUN).order_by(*_NEWEST_FIRST).limit(count)
    if before is not None:
        its = sa.select(*_RUN).where(runs.c.job == before[0], runs.c.fence == before[1])
        if not (found := database.run(lambda db: db.execute(its).one_or_none(), reading=True)):
            return []
        picked = picked.where(sa.tuple_(*_RUN) < sa.tuple_(*map(sa.literal, found)))
    if site is not None:
        outcomes = ENDINGS if outcome is None else (outcome,)
        parts = [picked.where(runs.c.site == site, runs.c.outcome == one) for one in outcomes]
        picked = _first(parts, count, newest=True)
    elif outcome is not None:
        picked = picked.where(runs.c.outcome == outcome)
    keys = picked.cte("picked")
    same = sa.and_(runs.c.job == keys.c.job, runs.c.fence == keys.c.fence)
    query = (sa.select(*_BRIEF) if brief else sa.select(runs)).select_from(keys.join(runs, same))
    return _entries(database, query.order_by(*_NEWEST_FIRST))


def all_runs(database: Database, since: float) -> Iterator[Entry]:
    """The runs that ended after SINCE, the oldest first; memory use does not grow with their number."""
    after: Sequence[Any] = (since, 0, 0)
    query = sa.select(runs).order_by(*_RUN).limit(PAGE)
    while found := _entries(database, query.where(sa.tuple_(*_RUN) > sa.tuple_(*map(sa.literal, after)))):
        yield from found
        after = [found[-1][column.name] for column in _RUN]


def pictures_of(database: Database, number: int, fence: int) -> list[Entry]:
    """The pictures of a run, in their order."""
    query = sa.select(pictures).where(pictures.c.job == number, pictures.c.fence == fence)
    return _entries(database, query.order_by(*in_order))


def deliveries_of(database: Database, number: int, fence: int) -> list[Entry]:
    """The targets that have a run, since when, and their answers."""
    return _entries(
        database,
        sa.select(delivered.c.target, delivered.c.at.label("delivered_at"), delivered.c.answer)
        .where(delivered.c.job == number, delivered.c.fence == fence)
        .order_by(delivered.c.target),
    )


def _first(parts: Sequence[sa.Select[Any]], count: int, *, newest: bool = False) -> sa.Select[Any]:
    """The first COUNT of all PARTS; each part is sorted by its columns and has no others, so an index serves it."""
    if len(parts) == 1:
        return parts[0]
    union = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery()
    return sa.select(union).order_by(*(one.desc() if newest else one for one in union.c)).limit(count)


def _entries(database: Database, query: sa.Select[Any]) -> list[Entry]:
    def entry(row: Any) -> Entry:
        values = dict(row._mapping)
        return {name: json.loads(it) if name in _JSON and it is not None else it for name, it in values.items()}

    return database.run(lambda db: [entry(row) for row in db.execute(query)], reading=True)
