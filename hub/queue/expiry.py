"""Removes in this order: pictures by age and size, then answers, then whole runs.

Nothing is removed that must still be delivered. Files that a worker must remove itself stay in the tables until it
has removed them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from fleet.db import among
from hub.queue.schema import NAMES, alerts, delivered, kept, outbox, pictures, runs

PARCEL = 500
_ANSWERS, _PICTURES = "answers", "pictures"
_MARK = sa.select(kept.c.until).where(kept.c.step == sa.bindparam("of"))
_OWN: sa.BindParameter[str] = sa.bindparam("own")
_SAME = (pictures.c.job == runs.c.job, pictures.c.fence == runs.c.fence)
_WAITS = sa.exists().where(outbox.c.job == runs.c.job, outbox.c.fence == runs.c.fence)
_SIZE = sa.select(sa.func.sum(pictures.c.size_bytes)).join(runs, sa.and_(*_SAME)).where(runs.c.host == _OWN)
_OLDEST = (
    sa.select(runs.c.worker, runs.c.ended_at, pictures.c.name, pictures.c.size_bytes)
    .join(pictures, sa.and_(*_SAME))
    .where(runs.c.host == _OWN, runs.c.ended_at >= sa.bindparam("since"))
    .order_by(runs.c.ended_at, runs.c.job, runs.c.fence)
)
_OLDEST_TO_GO = _OLDEST.where(~_WAITS).limit(sa.bindparam("count"))
_AGED = (
    sa.select(runs.c.job, runs.c.fence, runs.c.ended_at)
    .where(runs.c.ended_at >= sa.bindparam("since"), runs.c.ended_at < sa.bindparam("before"))
    .order_by(runs.c.ended_at)
    .limit(PARCEL)
)
_OF_WORKER = (
    sa.select(pictures.c.job, pictures.c.fence, pictures.c.name)
    .join(runs, sa.and_(*_SAME))
    .where(among(pictures.c.name, NAMES), runs.c.host == _OWN, runs.c.worker == sa.bindparam("worker"))
)


def stale(db: sa.Connection, host: str, before: float, most_bytes: float, count: int) -> list[tuple[str, str]]:
    """Workers of HOST and the pictures that each may remove: of runs ended BEFORE, and the oldest above MOST_BYTES."""
    # There may be many runs without pictures: those before the first one with pictures are not read again.
    step = f"{_PICTURES} {host}"
    since = float(db.scalar(_MARK, {"of": step}) or 0.0)
    if (first := db.execute(_OLDEST.limit(1), {"own": host, "since": since}).first()) is None:
        return []
    _mark(db, step, first.ended_at)
    excess = float(db.scalar(_SIZE, {"own": host}) or 0) - most_bytes
    found = []
    values = {"own": host, "since": since, "count": count}
    for worker, ended_at, name, size_bytes in db.execute(_OLDEST_TO_GO, values):
        if ended_at >= before and excess <= 0:
            break
        excess -= size_bytes
        found.append((str(worker), str(name)))
    return found


def forget(db: sa.Connection, host: str, worker: str, names: Collection[str]) -> None:
    """Record that WORKER has removed the pictures NAMES."""
    rows = db.execute(_OF_WORKER, {"names": list(names), "own": host, "worker": worker}).all()
    for row in rows:
        of = {pictures.c[name]: value for name, value in row._mapping.items()}
        db.execute(sa.delete(pictures).where(*(column == value for column, value in of.items())))


def clear_answers(db: sa.Connection, before: float) -> int:
    """Clear answers and details of some runs that ended BEFORE; returns how many."""
    since = float(db.scalar(_MARK, {"of": _ANSWERS}) or 0.0)
    known = sa.or_(runs.c.answer.is_not(None), runs.c.details.is_not(None))
    rows = db.execute(_AGED.where(known, ~_WAITS), {"since": since, "before": before}).all()
    for row in rows:
        db.execute(sa.update(runs).where(*_of(runs, row)).values(answer=None, details=None))
        db.execute(sa.update(delivered).where(*_of(delivered, row)).values(answer=None))
    # Runs before the mark are not read again: one that waited then keeps its answer until the run is removed.
    _mark(db, _ANSWERS, max(since, rows[-1].ended_at if rows else before))
    return len(rows)


def drop_runs(db: sa.Connection, before: float) -> int:
    """Remove some runs that ended BEFORE, except those that still have pictures; returns how many."""
    has_pictures = sa.exists().where(*_SAME)
    query = _AGED.where(~_WAITS, ~has_pictures)
    rows = db.execute(query, {"since": 0.0, "before": before}).all()
    for row in rows:
        for table in (delivered, runs):
            db.execute(sa.delete(table).where(*_of(table, row)))
    db.execute(sa.delete(alerts).where(alerts.c.since < before, alerts.c.raised == sa.false()))
    return len(rows)


def _mark(db: sa.Connection, step: str, until: float) -> None:
    db.execute(sa.delete(kept).where(kept.c.step == step))
    db.execute(sa.insert(kept), {"step": step, "until": until})


def _of(table: sa.Table, row: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return (table.c.job == row.job, table.c.fence == row.fence)
