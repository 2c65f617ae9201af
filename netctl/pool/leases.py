"""What every new tunnel asks of the key store, as SQL that is written down and not built each time.

Built statements took four times as long, and with many workers at once each of them waits for all before it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

_BEGIN = """
INSERT INTO leases (id, key_id, public, slot, generation, endpoint_host, endpoint_port, owner, state, began_at)
VALUES (:id, :key_id, :public, :slot, :generation, :endpoint_host, :endpoint_port, :owner, :state, :began_at)
"""
_ENDING = "slot = :slot AND state = 'ending' AND generation < :before"
# Also of the row that has taken the place of one that leaves.
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
_AS_NEW = "UPDATE keys SET aside_until = NULL WHERE (server = ? OR public = ?) AND aside_until > 0"
_EVERY_GENERATION = 2**62


def begin(db: sa.Connection, values: dict[str, Any]) -> None:
    """A new lease; the schema refuses a second one of its key or its slot."""
    db.exec_driver_sql(_BEGIN, values)


def ending(db: sa.Connection, uid: int) -> None:
    """The slot's lease is `ending`."""
    db.exec_driver_sql("UPDATE leases SET state = 'ending' WHERE slot = ? AND state = 'held'", (uid,))


def ended(db: sa.Connection, uid: int, before: int | None, now: float, kept: int) -> None:
    """The slot's `ending` leases (of a generation BEFORE that one) have ended; of its ended ones KEPT are kept."""
    values = {"slot": uid, "before": _EVERY_GENERATION if before is None else before, "now": now, "kept": kept}
    db.exec_driver_sql(_REST, values)
    db.exec_driver_sql(_SPENT, values)
    if db.exec_driver_sql(_ENDED, values).rowcount:
        db.exec_driver_sql(_LEAVE)
        db.exec_driver_sql(_FORGET, values)


def good(db: sa.Connection, uid: int, generation: int, now: datetime) -> None:
    """The slot's lease of GENERATION carries a tunnel: neither its key nor its server is aside any more."""
    values = {"slot": uid, "generation": generation, "now": now.timestamp(), "day": now.toordinal()}
    for names in db.exec_driver_sql(_GOOD, values).all():
        db.exec_driver_sql(_AS_NEW, tuple(names))
