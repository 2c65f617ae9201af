"""The statements that every new tunnel needs, as fixed SQL text instead of built statements.

Built statements took four times as long, and with many workers each one waits for all before it. For the same reason
requests that come together share one call of the driver for each statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from netctl.pool.schema import driver

_BEGIN = """
INSERT INTO leases (id, key_id, public, slot, generation, endpoint_host, endpoint_port, owner, state, began_at)
VALUES (:id, :key_id, :public, :slot, :generation, :endpoint_host, :endpoint_port, :owner, :state, :began_at)
"""
_ENDING = "slot = :slot AND state = 'ending' AND generation < :before"
# By public key and server, so that it also applies to the row that has replaced a `leaving` one.
_REST = f"""
UPDATE keys SET last_used_at = :now FROM (
    SELECT used.public AS key, used.server AS host FROM leases JOIN keys AS used ON used.id = key_id WHERE {_ENDING}
) WHERE public = key AND server = host
"""  # noqa: S608
# A key of a service is leased once.
_SPENT = f"""
UPDATE keys SET leaving = 1 WHERE public IN (SELECT public FROM issued)
AND id IN (SELECT key_id FROM leases WHERE {_ENDING})
"""  # noqa: S608
_ENDED = f"UPDATE leases SET state = 'ended' WHERE {_ENDING}"  # noqa: S608 - written above
_FORGET = """
DELETE FROM leases WHERE slot = :slot AND state = 'ended'
AND generation <= (SELECT max(generation) FROM leases WHERE slot = :slot) - :kept
"""
_LEAVE = "DELETE FROM keys WHERE leaving AND id NOT IN (SELECT key_id FROM leases WHERE state <> 'ended')"
_GOOD = """
UPDATE keys SET good_at = :now, day = :day, good_leases = CASE day WHEN :day THEN good_leases + 1 ELSE 1 END
WHERE id = (SELECT key_id FROM leases WHERE slot = :slot AND generation = :generation) RETURNING server, public
"""
_ASIDE = "SELECT 1 FROM keys WHERE aside_until > 0 LIMIT 1"
_AS_NEW = "UPDATE keys SET aside_until = NULL WHERE (server = ? OR public = ?) AND aside_until > 0"
_EVERY_GENERATION = 2**62


def begin(db: sa.Connection, values: dict[str, Any]) -> None:
    """Insert a new lease; the schema refuses a second one of its key or its slot."""
    driver(db).execute(_BEGIN, values)


def ending(db: sa.Connection, uid: int) -> None:
    """Set the slot's held lease to `ending`."""
    driver(db).execute("UPDATE leases SET state = 'ending' WHERE slot = ? AND state = 'held'", (uid,))


def ended(db: sa.Connection, slots: Sequence[tuple[int, int | None]], now: float, kept: int) -> None:
    """End the `ending` leases of SLOTS (UID, and before which generation; None: all); keep KEPT ended ones of each."""
    values = [
        {"slot": uid, "before": _EVERY_GENERATION if before is None else before, "now": now, "kept": kept}
        for uid, before in slots
    ]
    store = driver(db)
    store.executemany(_REST, values)
    store.executemany(_SPENT, values)
    if store.executemany(_ENDED, values).rowcount:
        store.execute(_LEAVE)
        store.executemany(_FORGET, values)


def good(db: sa.Connection, slots: Sequence[tuple[int, int]], now: datetime) -> None:
    """Record that the leases SLOTS (UID, generation) carry tunnels: their keys and servers are not aside any more."""
    store, moment = driver(db), {"now": now.timestamp(), "day": now.toordinal()}
    names = [
        one
        for uid, generation in slots
        for one in store.execute(_GOOD, {"slot": uid, "generation": generation, **moment}).fetchall()
    ]
    if store.execute(_ASIDE).fetchone():
        store.executemany(_AS_NEW, names)
