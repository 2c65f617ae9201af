"""Keys of a key service: a journal of the keys that it has given, until they are returned.

A key is in the journal from when it is in the pool until the service has confirmed its return. It is leased once. A key
that is in the journal but no longer in the pool is to be given back: its lease has ended, which needs the confirmation
of the device (netctl.pool.contract). So a crash at any moment loses no key and gives none back too early.

Times are of the store's clock and count from before the request: the service's own hour begins later.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa
from pydantic import JsonValue

from netctl.pool import updates
from netctl.pool.updates import Found

LEASE_WITHIN, SEAL_AFTER, RETURN_WITHIN = 0.5, 0.9, 0.97
"""Fractions of the time for which the service lends a key: until the first it may be leased; at the second its lease is
ended; after the third it is not given back any more, since the service may have given it to another client by then."""
_THERE = "SELECT 1 FROM issued WHERE public = :public UNION SELECT 1 FROM keys WHERE public = :public"
_NOTE = "INSERT INTO issued (public, asked, back, since, since_wall, seconds) VALUES (?, ?, ?, ?, ?, ?)"
_EXIT = """
UPDATE keys SET exit_address = other.exit_address, learned_at = other.learned_at FROM (
    SELECT server AS at, server_public AS by, exit_address, max(learned_at) AS learned_at
    FROM keys WHERE learned_at IS NOT NULL GROUP BY server, server_public
) AS other WHERE keys.public = :public AND keys.server = at AND keys.server_public = by AND keys.exit_address IS NULL
"""
_FREE = "public NOT IN (SELECT public FROM leases WHERE state <> 'ended')"
_EXPIRE = f"""
DELETE FROM keys WHERE {_FREE} AND public IN (SELECT public FROM issued WHERE :all OR since + seconds * :part <= :now)
"""  # noqa: S608 - written above
_LOST = """
DELETE FROM issued WHERE since + seconds * :part <= :now AND public NOT IN (SELECT public FROM keys) RETURNING public
"""
_DUE = "SELECT public, asked, back FROM issued WHERE public NOT IN (SELECT public FROM keys)"
_READY = f"SELECT count(DISTINCT public) FROM keys JOIN issued USING (public) WHERE NOT retired AND {_FREE}"  # noqa: S608
_ASKED = "SELECT asked, count(*) AS lent FROM issued GROUP BY asked"
_OVERDUE = """
SELECT slot, public FROM leases JOIN issued USING (public) WHERE state = 'held' AND since + seconds * :part <= :now
"""


class Given(NamedTuple):
    """A key that the service has lent."""

    public: str
    asked: str
    """The server that was asked for."""
    back: Mapping[str, JsonValue]
    """What to send to the service when the key is given back."""
    since: float
    seconds: float


class Due(NamedTuple):
    """A key to give back to the service."""

    public: str
    asked: str
    back: dict[str, JsonValue]


class Stock(NamedTuple):
    """The service's keys that netctl has."""

    ready: int
    """Keys that can be leased."""
    asked: dict[str, int]
    """How many keys are lent, by the server that was asked for."""


def accept(db: sa.Connection, now: float, given: Given, found: Found | None) -> bool:
    """If GIVEN is new, record it and add FOUND to the pool; returns whether it was new.

    Without FOUND (the key cannot be used) it is recorded only to be given back.
    """
    if db.exec_driver_sql(_THERE, {"public": given.public}).first() is not None:
        return False
    wall = time.time() - max(0.0, now - given.since)
    values = (given.public, given.asked, json.dumps(given.back), given.since, wall, given.seconds)
    db.exec_driver_sql(_NOTE, values)
    if found is not None:
        updates.add(db, [found])
        # Until this key is checked, assume the exit that was learned for another key of the same server.
        db.exec_driver_sql(_EXIT, {"public": given.public})
    return True


def withdraw(db: sa.Connection, now: float, *, everything: bool = False) -> None:
    """Remove from the pool the service's free keys that are too old to be leased, or EVERYTHING that is not leased."""
    db.exec_driver_sql(_EXPIRE, {"now": now, "part": LEASE_WITHIN, "all": everything})


def due(db: sa.Connection, now: float) -> tuple[list[Due], list[str]]:
    """The keys to give back, and those for which it is too late: the service has taken them away itself."""
    lost = [*db.exec_driver_sql(_LOST, {"now": now, "part": RETURN_WITHIN}).scalars()]
    rows = db.exec_driver_sql(_DUE).all()
    return [Due(public, asked, json.loads(back)) for public, asked, back in rows], lost


def returned(db: sa.Connection, _: float, publics: Iterable[str]) -> None:
    """Remove PUBLICS from the journal: the service has them back."""
    for public in publics:
        db.exec_driver_sql("DELETE FROM issued WHERE public = ?", (public,))


def stock(db: sa.Connection) -> Stock:
    """The service's keys that netctl has now."""
    ready = db.exec_driver_sql(_READY).scalar_one()
    return Stock(ready, {row.asked: row.lent for row in db.exec_driver_sql(_ASKED)})


def overdue(db: sa.Connection, now: float) -> list[tuple[int, str]]:
    """The slots whose key the service takes away soon: UID and public key."""
    return [(slot, public) for slot, public in db.exec_driver_sql(_OVERDUE, {"now": now, "part": SEAL_AFTER})]


def tell(db: sa.Connection, trouble: str | None) -> None:
    """Record what is wrong with the service ("": nothing). None: there is no service; its free keys leave the pool."""
    db.exec_driver_sql("DELETE FROM service")
    if trouble is not None:
        db.exec_driver_sql("INSERT INTO service (trouble) VALUES (?)", (trouble,))
        return
    withdraw(db, 0, everything=True)
    db.exec_driver_sql("DELETE FROM issued WHERE public NOT IN (SELECT public FROM keys)")


def trouble(db: sa.Connection) -> str | None:
    """What tell() has recorded last."""
    return db.exec_driver_sql("SELECT trouble FROM service").scalar()
