"""Adds jobs to the queue in parcels, so that a long list locks a site no longer than a short one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleet.db import Many, among, each
from hub.queue import locks, politeness
from hub.queue.politeness import Head, Site
from hub.queue.repeat import Cron, Interval
from hub.queue.schema import IDS, NAMES, jobs, runs, sites
from hub.queue.values import Added, Job, Pace, Receipt, document

PARCEL = 500
_KEYS = sa.bindparam("keys", type_=Many(sa.Text))
_THERE = sa.select(jobs.c.key, jobs.c.id).where(among(jobs.c.key, _KEYS))
_ASKED = each(_KEYS)
_OF_KEY = sa.select(runs.c.job).where(runs.c.key == _ASKED.c.value).order_by(runs.c.ended_at.desc()).limit(1)
DONE = sa.select(_ASKED.c.value, _OF_KEY.correlate(_ASKED).scalar_subquery())
"""For each key, a job that has run, or none; the cost does not depend on its number of runs."""
_DELETE = sa.delete(jobs).where(among(jobs.c.id, IDS))


def add(db: sa.Connection, parcel: Sequence[Job], pace: Pace, now: float) -> list[Receipt]:
    """Add PARCEL, each job only once under its key; new sites get PACE."""
    make_sites(db, {job.site for job in parcel}, pace)
    plain = {index: job for index, job in enumerate(parcel) if job.key is None}
    keyed: dict[str, Job] = {}
    for job in parcel:
        if job.key is not None:
            keyed.setdefault(job.key, job)
    found = dict(zip(plain, _insert(db, list(plain.values()), now), strict=True))
    new, there, done = _add_keyed(db, keyed, now)
    _ring(db, [*plain.values(), *(keyed[key] for key in new)], now)
    told: set[str] = set()
    receipts = []
    for index, job in enumerate(parcel):
        if job.key is None:
            receipts.append(Receipt(job=found[index], added=Added.NEW))
        elif job.key in done:
            receipts.append(Receipt(job=done[job.key], added=Added.DONE))
        elif job.key in new and job.key not in told:
            told.add(job.key)
            receipts.append(Receipt(job=new[job.key], added=Added.NEW))
        else:
            receipts.append(Receipt(job=(new | there)[job.key], added=Added.THERE))
    return receipts


def _add_keyed(
    db: sa.Connection, keyed: Mapping[str, Job], now: float
) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """By key, the jobs that are new, those that are in the queue, and those that are done.

    A job that is done leaves the queue in the transaction that writes its run. Another hub that adds it meanwhile waits
    at the unique key, and finds the run by a query after the insertion: a query before it would find neither.
    A job that was in the queue at the insertion may have left before the query: then the next round finds it done.
    """
    new: dict[str, int] = {}
    there: dict[str, int] = {}
    done: dict[str, int] = {}
    while left := {key: job for key, job in keyed.items() if key not in new and key not in there and key not in done}:
        inserted = _insert_keyed(db, left, now)
        # A repeating job leaves the queue only by an order, and can then be added again.
        left_before = _ids(db, DONE, [key for key in inserted if keyed[key].repeat is None])
        if left_before:
            db.execute(_DELETE, {"ids": sorted(inserted[key] for key in left_before)})
        done |= left_before
        new |= {key: job for key, job in inserted.items() if key not in left_before}
        there |= _ids(db, _THERE, left.keys() - inserted.keys())
    return new, there, done


def make_sites(db: sa.Connection, names: Set[str], pace: Pace) -> None:
    """Make the sites of NAMES that do not exist; new ones get PACE."""
    new = sorted(names - {row.name for row in db.execute(_KNOWN, {"names": sorted(names)})})
    if new:
        site = Site(name="", interval_seconds=pace.interval_seconds, most=pace.most, room=pace.most)
        rows = [{**asdict(site), "name": name} for name in new]
        db.execute(_insertion(db, sites).values(rows).on_conflict_do_nothing())


_KNOWN = sa.select(sites.c.name).where(among(sites.c.name, NAMES))


def _insertion(db: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def _insert(db: sa.Connection, new: Sequence[Job], now: float) -> list[int]:
    """The ids of NEW jobs, in their order."""
    if not new:
        return []
    statement = sa.insert(jobs).returning(jobs.c.id, sort_by_parameter_order=True)
    return list(db.scalars(statement, [row_of(job, now) for job in new]))


def _insert_keyed(db: sa.Connection, keyed: Mapping[str, Job], now: float) -> dict[str, int]:
    """By key, the ids of those that did not exist; in the keys' order, so that transactions cannot deadlock."""
    statement = _insertion(db, jobs).on_conflict_do_nothing().returning(jobs.c.key, jobs.c.id)
    return {row.key: row.id for row in db.execute(statement, [row_of(keyed[key], now) for key in sorted(keyed)])}


def _ids(db: sa.Connection, query: sa.Select[Any], keys: Any) -> dict[str, int]:
    rows = db.execute(query, {"keys": sorted(keys)}) if keys else ()
    return {key: job for key, job in rows if job is not None}


def _ring(db: sa.Connection, new: Sequence[Job], now: float) -> None:
    """Set the wake-up times of the sites of NEW jobs."""
    heads: dict[str, list[Head]] = {}
    for job in new:
        heads.setdefault(job.site, []).append(Head(_due_at(job, now), job.priority))
    before = locks.lock(db, heads)
    locks.keep(db, before, [politeness.earlier(site, heads[name]) for name, site in before.items()])


def _due_at(job: Job, now: float) -> float:
    if job.not_before is not None:
        return job.not_before.timestamp()
    return job.repeat.after(now, now) if isinstance(job.repeat, Cron) else now


def row_of(job: Job, now: float) -> dict[str, Any]:
    """The row of a new JOB."""
    due_at = _due_at(job, now)
    return {
        "key": job.key,
        "site": job.site,
        "task": job.task,
        "arguments": document(job.arguments),
        "priority": int(job.priority),
        "exit": job.exit,
        "same_exit": job.same_exit,
        "interval_seconds": job.repeat.seconds if isinstance(job.repeat, Interval) else None,
        "cron": job.repeat.words if isinstance(job.repeat, Cron) else None,
        "zone": job.repeat.zone if isinstance(job.repeat, Cron) else None,
        "targets": json.dumps(job.targets),
        "attempts": job.attempts,
        "attempts_left": job.attempts,
        "scheduled_at": due_at,
        "due_at": due_at,
        "state": "ready",
        "fence": 0,
        "cancelled": False,
        "until": None if job.patience_seconds is None else due_at + job.patience_seconds,
    }
