"""A person's orders: cancel a job or retry it; pause a site or change its pace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from fleet.db import among
from fleet.outcomes import Ending
from hub.queue import adding, locks
from hub.queue.endings import JOBS_OF, LEAVE, SITES_OF, Record, ended_run, settle, write_runs
from hub.queue.politeness import Site
from hub.queue.rests import READY, SPENT
from hub.queue.schema import IDS, jobs
from hub.queue.values import Finished, Pace

_CHANGE = sa.update(jobs).where(among(jobs.c.id, IDS))


def cancel(
    db: sa.Connection,
    ids: Iterable[int],
    now: float,
    record: Record,
    *,
    outcome: Ending = "cancelled",
    error: str | None = None,
) -> tuple[set[int], set[int]]:
    """Cancel the jobs IDS: those that left at once, with OUTCOME, and those whose workers must be told.

    A job that was set aside has been answered already.
    """
    wanted = sorted(set(ids))
    before = locks.lock(db, db.scalars(SITES_OF, {"ids": wanted}))
    rows = {row.id: row for row in db.execute(JOBS_OF, {"ids": wanted})}
    running = {job for job, row in rows.items() if row.state == "leased"}
    gone = rows.keys() - running
    if running:
        db.execute(_CHANGE.values(cancelled=True), {"ids": sorted(running)})
    if gone:
        db.execute(LEAVE, {"ids": sorted(gone)})
        ends = {job: Finished(job=job, fence=rows[job].fence + 1, outcome=outcome, error=error) for job in sorted(gone)}
        answers = {job: rows[job].state == READY for job in ends}
        runs = [ended_run(rows[job], one, now, answers=answers[job]) for job, one in ends.items()]
        write_runs(db, runs, now, record)
        settle(db, before, {rows[job].site: before[rows[job].site] for job in gone})
    return set(gone), running


def retry(db: sa.Connection, ids: Iterable[int], now: float) -> set[int]:
    """Make those of the jobs IDS that are set aside ready again; returns them."""
    wanted = sorted(set(ids))
    before = locks.lock(db, db.scalars(SITES_OF, {"ids": wanted}))
    spent = {row.id: row for row in db.execute(JOBS_OF, {"ids": wanted}) if row.state == SPENT}
    if spent:
        values = {"state": READY, "due_at": now, "attempts_left": jobs.c.attempts}
        db.execute(_CHANGE.values(values), {"ids": sorted(spent)})
        settle(db, before, {row.site: before[row.site] for row in spent.values()})
    return set(spent)


def pause(db: sa.Connection, name: str, *, paused: bool) -> bool:
    """If PAUSED, no job of the site NAME begins; running ones continue. Whether there is such a site."""
    return _change(db, name, paused=paused)


def pace(db: sa.Connection, name: str, to: Pace) -> None:
    """Give the site NAME another pace, even before its first job; running jobs continue."""
    adding.make_sites(db, {name}, to)
    _change(db, name, interval_seconds=to.interval_seconds, most=to.most)


def _change(db: sa.Connection, name: str, **values: Any) -> bool:
    before = locks.lock(db, [name])
    changed = {site.name: _with_room(replace(site, **values)) for site in before.values()}
    settle(db, before, changed)
    return bool(changed)


def _with_room(site: Site) -> Site:
    return replace(site, room=max(site.most, site.running))
