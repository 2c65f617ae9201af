"""Hosts and their leases: one heartbeat per host, not one per job; other hosts get the jobs of a silent host.

A hub that was silent for longer than its lease is fenced before any of its jobs is touched: its next beat reports it.
What it still reports of its runs is stale by their fence.
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleet.db import among
from fleet.errors import HostFenced
from hub.queue import endings
from hub.queue.schema import LEASED, NAMES, hosts, jobs
from hub.queue.values import Finished

PARCEL = 200
_MINE = (hosts.c.name == sa.bindparam("host"), hosts.c.incarnation == sa.bindparam("own"))
_ALIVE = sa.select(hosts.c.until).where(*_MINE, hosts.c.until > sa.bindparam("now"))
_BEAT = sa.update(hosts).where(*_MINE).values(until=sa.bindparam("to"))
_SILENT = (
    sa.select(hosts.c.name)
    .where(hosts.c.until < sa.bindparam("now"), hosts.c.incarnation.is_not(None))
    .order_by(hosts.c.name)
    .with_for_update(key_share=True, skip_locked=True)
)
_FENCE = sa.update(hosts).where(among(hosts.c.name, NAMES)).values(incarnation=None)
_FENCED = sa.select(hosts.c.name).where(hosts.c.incarnation.is_(None))
_LEFT = sa.select(jobs.c.id, jobs.c.fence).where(jobs.c.state == LEASED, among(jobs.c.host, NAMES)).limit(PARCEL)
_HELD = sa.select(jobs.c.id, jobs.c.fence, jobs.c.worker, jobs.c.cancelled, jobs.c.began_at).where(
    jobs.c.state == LEASED, jobs.c.host == sa.bindparam("host")
)


class Lease(NamedTuple):
    """The lease of a host on a job."""

    fence: int
    worker: str
    cancelled: bool
    began_at: float


def enlist(db: sa.Connection, host: str, incarnation: str, *, version: str, settings: str, until: float) -> None:
    """Begin a life of HOST as INCARNATION. Jobs of an earlier life stay leased to it: see held()."""
    values = {"incarnation": incarnation, "until": until, "version": version, "settings": settings}
    insert = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    db.execute(insert(hosts).values(name=host, **values).on_conflict_do_update(index_elements=["name"], set_=values))


def beat(db: sa.Connection, host: str, incarnation: str, until: float) -> None:
    """Renew HOST's lease. Raises HostFenced if it was declared dead, or has begun another life."""
    if not db.execute(_BEAT, {"host": host, "own": incarnation, "to": until}).rowcount:
        raise HostFenced


def require_alive(db: sa.Connection, host: str, incarnation: str, now: float) -> None:
    """Raise HostFenced unless HOST has its lease: otherwise it would soon lose what it takes now."""
    if db.scalar(_ALIVE, {"host": host, "own": incarnation, "now": now}) is None:
        raise HostFenced


def fence(db: sa.Connection, now: float) -> None:
    """Fence every host that was silent for longer than its lease."""
    if silent := list(db.scalars(_SILENT, {"now": now})):
        db.execute(_FENCE, {"names": silent})


def retire(db: sa.Connection, host: str, incarnation: str) -> None:
    """End HOST's lease now, so that no other host waits for it."""
    change = sa.update(hosts).where(*_MINE).values(incarnation=None)
    db.execute(change, {"host": host, "own": incarnation})


def recover(db: sa.Connection, now: float, record: endings.Record) -> int:
    """Give jobs of fenced hosts to others; returns how many, 0 when none is left. One parcel keeps the locks short."""
    fenced = list(db.scalars(_FENCED))
    left = db.execute(_LEFT, {"names": fenced}).all() if fenced else []
    endings.finish(db, [Finished(job=job, fence=held, outcome="lost") for job, held in left], now, record)
    return len(left)


def held(db: sa.Connection, host: str) -> dict[int, Lease]:
    """The jobs that HOST has, by id."""
    return {row.id: Lease(*row[1:]) for row in db.execute(_HELD, {"host": host})}
