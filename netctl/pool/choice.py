"""Chooses the key to lease next, and counts keys.

The free keys are queried once for all requests that come together: with 600 keys that takes a millisecond, and each of
32 choices a twentieth of that. With a query for each choice, each took as long as all of them take now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from netctl.pool.contract import WholeKey, Wish
from netctl.pool.issued import LEASE_WITHIN
from netctl.pool.schema import driver

_FREE = """
SELECT id, public, server, region, coalesce(last_used_at, -1e99) AS used FROM keys
WHERE NOT retired AND NOT leaving AND public NOT IN (SELECT public FROM leases WHERE state <> 'ended')
      AND public NOT IN (SELECT public FROM issued WHERE since + seconds * :part <= :now)
      AND (last_used_at IS NULL OR last_used_at + :cooldown <= :now)
ORDER BY used, id
"""
_LOAD = "SELECT server, count(*) FROM leases JOIN keys ON keys.id = key_id WHERE state <> 'ended' GROUP BY server"
_LATEST = """
SELECT generation, server FROM leases LEFT JOIN keys ON keys.id = leases.key_id
WHERE slot = ? ORDER BY generation DESC LIMIT 1
"""
_NUMBERS = """
WITH busy AS (SELECT public FROM leases WHERE state <> 'ended'),
     pool AS (SELECT public, max(last_used_at IS NULL OR last_used_at + :cooldown <= :now) AS rested FROM keys
              WHERE NOT (retired OR leaving) OR public IN (SELECT public FROM busy) GROUP BY public)
SELECT count(*), (SELECT count(*) FROM busy),
       (SELECT count(DISTINCT server) FROM keys WHERE NOT (retired OR leaving)),
       coalesce(sum(NOT rested AND public NOT IN (SELECT public FROM busy)), 0)
FROM pool
"""
_THERE = """
SELECT EXISTS (SELECT 1 FROM keys WHERE (:server IS NULL OR :server IN (server, region))
  AND (NOT (retired OR leaving) OR public IN (SELECT public FROM leases WHERE state <> 'ended')))
"""


class Chosen(NamedTuple):
    """The row to lease next (a key at a server), and the generation of the slot's latest lease; 0 without one."""

    key_id: int
    row: Mapping[Any, Any]
    latest: int


class _Row(NamedTuple):
    key_id: int
    public: str
    server: str
    region: str | None
    used: float


class Free:
    """The keys that are free now, for the wishes of one transaction.

    A key has one lease at a time, at any of its servers. UNREADABLE rows are not free, nor keys that rest for
    COOLDOWN_SECONDS at their server: WireGuard's replay protection refuses a key that is used again at once.
    """

    def __init__(
        self, db: sa.Connection, *, now: float, cooldown_seconds: float, unreadable: Collection[int] = ()
    ) -> None:
        self._db, self._unreadable = driver(db), unreadable
        self._workers: dict[str, int] = dict(self._db.execute(_LOAD).fetchall())
        self._taken: set[str] = set()
        self._groups: dict[tuple[str, str | None], list[_Row]] = {}
        """The free rows by server and region, least recently used first; within a group only this order matters."""
        values = {"part": LEASE_WITHIN, "now": now, "cooldown": cooldown_seconds}
        for row in map(_Row._make, self._db.execute(_FREE, values)):
            self._groups.setdefault((row.server, row.region), []).append(row)

    def choose(self, wish: Wish) -> Chosen | None:
        """The key and its server for WISH; None when none is free at a server below its limit of workers.

        Last come servers to avoid; before them keys and servers put aside, in the order in which their time ends;
        before them the server of the slot's latest lease, so that a worker changes its exit while another is free;
        before them servers with more workers; among equals the least recently used key comes first. Last does not mean
        never: when every server was unreachable, all of them are aside.
        """
        latest, former = self._db.execute(_LATEST, (wish.uid,)).fetchone() or (0, None)

        def order(row: _Row) -> tuple[bool, float, bool, int, float, int]:
            back, server = max(wish.aside.get(name, 0) for name in _names(row)), row.server
            return server in wish.avoid, back, server == former, self._workers.get(server, 0), row.used, row.key_id

        best = min(self._candidates(wish), key=order, default=None)
        if best is None:
            return None
        found = self._db.execute("SELECT * FROM keys WHERE id = ?", (best.key_id,))
        row = dict(zip((column[0] for column in found.description), found.fetchone(), strict=True))
        return Chosen(best.key_id, row, latest)

    def _candidates(self, wish: Wish) -> Iterator[_Row]:
        """Of each group the rows up to the first that is not aside: the aside ones count if there is nothing else."""
        for (server, region), rows in self._groups.items():
            if wish.server not in (None, server, region):
                continue
            if wish.most_on_server and self._workers.get(server, 0) >= wish.most_on_server:
                continue
            for row in rows:
                if row.public in self._taken or row.key_id in self._unreadable:
                    continue
                yield row
                if wish.aside.keys().isdisjoint(_names(row)[1:]):
                    break

    def lease(self, chosen: Chosen) -> None:
        """Mark CHOSEN's key as leased, at all of its servers."""
        self._taken.add(chosen.row["public"])
        self._workers[chosen.row["server"]] = self._workers.get(chosen.row["server"], 0) + 1


def _names(row: _Row) -> tuple[str, int, WholeKey]:
    """The names under which ROW may be aside: its server, its id, its key at all servers."""
    return row.server, row.key_id, WholeKey(row.public)


def numbers(db: sa.Connection, *, now: float, cooldown_seconds: float) -> tuple[int, int, int, int]:
    """The numbers of keys in the pool, of leased keys, of servers, and of keys that rest."""
    keys, leased, servers, cooling = db.exec_driver_sql(_NUMBERS, {"cooldown": cooldown_seconds, "now": now}).one()
    return keys, leased, servers, cooling


def is_there(db: sa.Connection, server: str | None) -> bool:
    """Whether a key of SERVER, or of a region of that name, may become free; None: any key."""
    return bool(db.exec_driver_sql(_THERE, {"server": server}).scalar_one())
