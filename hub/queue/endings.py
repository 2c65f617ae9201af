"""Ends runs. The only place for every end: reported by a worker, or lost with its host.

The run is written, and its job leaves or becomes ready again (hub.queue.rests), in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from fleet.db import among
from fleet.outcomes import Ending
from hub.queue import locks, politeness, rests, rollups
from hub.queue.schema import IDS, LEASED, jobs, runs
from hub.queue.values import ANYWHERE, Finished, Taken, document, plain

SITES_OF = sa.select(jobs.c.site).where(among(jobs.c.id, IDS))
JOBS_OF = sa.select(jobs).where(among(jobs.c.id, IDS))
_RUNS = sa.select(runs.c.job, runs.c.fence, runs.c.outcome).where(among(runs.c.job, IDS))
LEAVE = sa.delete(jobs).where(among(jobs.c.id, IDS))
_AGAIN = (
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("of"), jobs.c.state == LEASED)
    .values(
        state=sa.bindparam("to_state"),
        scheduled_at=sa.bindparam("to_scheduled_at"),
        due_at=sa.bindparam("to_due_at"),
        attempts_left=sa.bindparam("to_left"),
        exit=sa.bindparam("to_exit"),
        host=None,
        worker=None,
        began_at=None,
    )
)
_OF_JOB = ("key", "site", "task", "arguments", "host", "worker", "began_at")


class Ended(NamedTuple):
    """A run that has ended, for what is recorded with it."""

    run: Mapping[str, Any]
    """Its row."""
    end: Finished
    targets: frozenset[str]
    """The targets of its deliveries: those of the run, and, if it answers its job, those of the job."""


Record = Callable[[sa.Connection, Sequence[Ended], float], None]
"""Records what belongs to runs, in the transaction in which they end."""


def nothing(_: sa.Connection, _ended: Sequence[Ended], _now: float) -> None:
    """A Record that records nothing more."""


def finish(db: sa.Connection, ends: Sequence[Finished], now: float, record: Record = nothing) -> list[Taken]:
    """Take ENDS in one transaction, and RECORD those in effect; returns how each was taken."""
    ids = sorted({one.job for one in ends})
    before = locks.lock(db, db.scalars(SITES_OF, {"ids": ids}))
    rows = {row.id: row for row in db.execute(JOBS_OF, {"ids": ids})} if before else {}
    ours: dict[tuple[int, int], Finished] = {}
    for one in ends:
        row = rows.get(one.job)
        if row is not None and in_effect(row, one.fence):
            ours.setdefault((one.job, one.fence), one)
    if ours:
        _end(db, [(rows[one.job], one) for one in ours.values()], before, now, record)
    others = [one for one in ends if ours.get((one.job, one.fence)) is not one]
    known = _outcomes(db, others)
    return [
        Taken.EFFECTIVE if ours.get((one.job, one.fence)) is one else _of_another(one, known.get((one.job, one.fence)))
        for one in ends
    ]


def in_effect(row: Any, fence: int) -> bool:
    """Whether the job of ROW is still leased as it was under FENCE."""
    return bool(row.state == "leased" and row.fence == fence)


def _of_another(one: Finished, outcome: str | None) -> Taken:
    """Only the queue itself writes LOST and CANCELLED, so no worker repeats them."""
    return Taken.REPEATED if outcome == one.outcome else Taken.STALE


def _outcomes(db: sa.Connection, ends: Iterable[Finished]) -> dict[tuple[int, int], str]:
    ids = sorted({one.job for one in ends})
    return {(row.job, row.fence): row.outcome for row in db.execute(_RUNS, {"ids": ids})} if ids else {}


def _end(
    db: sa.Connection,
    ends: Sequence[tuple[Any, Finished]],
    before: Mapping[str, politeness.Site],
    now: float,
    record: Record,
) -> None:
    """End runs, each with its job's row; the sites are locked, and were as BEFORE."""
    after = [rests.rest(row, one.outcome, one.wait_seconds, now) for row, one in ends]
    ended = [
        ended_run(row, one, now, answers=stays is None or not stays.unfinished)
        for (row, one), stays in zip(ends, after, strict=True)
    ]
    write_runs(db, ended, now, record)
    if leave := sorted(row.id for (row, _), stays in zip(ends, after, strict=True) if stays is None):
        db.execute(LEAVE, {"ids": leave})
    again = [_change(row, one, stays) for (row, one), stays in zip(ends, after, strict=True) if stays is not None]
    if again:
        db.execute(_AGAIN, sorted(again, key=lambda one: int(one["of"])))
    told: dict[str, list[tuple[Ending, float | None]]] = {}
    for row, one in ends:
        told.setdefault(row.site, []).append((one.outcome, one.wait_seconds))
    after_them = {name: politeness.over(before[name], of_site, now) for name, of_site in told.items()}
    for row, one in ends:
        after_them[row.site] = politeness.asked(after_them[row.site], one.crawl_delay_seconds, now)
    settle(db, before, after_them)


def _change(row: Any, one: Finished, stays: rests.Rest) -> dict[str, Any]:
    return {
        "of": row.id,
        "to_state": stays.state,
        "to_scheduled_at": stays.scheduled_at,
        "to_due_at": stays.due_at,
        "to_left": stays.attempts_left,
        "to_exit": one.exit if row.same_exit and row.exit == ANYWHERE and one.exit else row.exit,
    }


def ended_run(row: Any, end: Finished, now: float, *, answers: bool) -> Ended:
    """A run of the job of ROW that ends NOW. It ANSWERS the job unless the job is tried again."""
    run = {
        "job": end.job,
        "fence": end.fence,
        **{name: getattr(row, name) for name in _OF_JOB},
        "exit": end.exit,
        "ended_at": now,
        "outcome": end.outcome,
        "error": None if end.error is None else plain(end.error),
        "answer": None if end.answer is None else document(end.answer),
        "details": None if end.details is None else document(end.details),
    }
    return Ended(run, end, frozenset([*end.targets, *(json.loads(row.targets) if answers else ())]))


def write_runs(db: sa.Connection, ended: Sequence[Ended], now: float, record: Record) -> None:
    """Write the runs and what belongs to them. The primary key refuses a second end of one lease."""
    db.execute(sa.insert(runs), [one.run for one in ended])
    rollups.add(db, [one.run for one in ended])
    record(db, ended, now)


def settle(db: sa.Connection, before: Mapping[str, politeness.Site], changed: Mapping[str, politeness.Site]) -> None:
    """Write CHANGED sites, each with the wake-up time that its jobs need now."""
    heads = locks.heads(db, changed)
    locks.keep(db, before, [politeness.alarm(site, heads[name]) for name, site in changed.items()])
