"""Counts of the keys at each server, for the hub's page. Reads no key itself: thousands would delay leases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from fleet.sockets.netctl_api import ServerKeys
from netctl.pool.lines import moment, state, with_leases
from netctl.pool.schema import keys

_MOST_WORDS = 200
_COLUMNS = ("id", "server", "region", "leaving", "retired", "aside_until", "last_used_at", "good_at", "failed_at")


def servers(db: sa.Connection, *, now: float, cooldown_seconds: float) -> list[ServerKeys]:
    """The counts of all servers, by region and name; NOW is a time of the store's clock."""
    why = sa.func.substr(keys.c.trouble, 1, _MOST_WORDS).label("trouble")
    found: dict[str, list[Mapping[Any, Any]]] = {}
    for row in with_leases(db, *(keys.c[name] for name in _COLUMNS), why):
        found.setdefault(row["server"], []).append(row)
    return [_server(name, rows, now, cooldown_seconds) for name, rows in found.items()]


def _server(name: str, rows: Sequence[Mapping[Any, Any]], now: float, cooldown_seconds: float) -> ServerKeys:
    states = [state(row, now, cooldown_seconds) for row in rows]
    count = Counter(states)
    aside = [row["aside_until"] for row, word in zip(rows, states, strict=True) if word == "aside"]
    failed = [row for row in rows if row["trouble"] and (row["failed_at"] or 0) >= (row["good_at"] or 0)]
    return ServerKeys(
        server=name,
        region=rows[0]["region"],
        keys=len(rows),
        # Counts also leased keys that are being removed.
        leased=sum(bool(row["slot"]) and not row["elsewhere"] for row in rows),
        free=count["free"],
        cooling=count["cooling"],
        aside=count["aside"],
        retired=count["retired"],
        aside_until=moment(min(aside, default=None)),
        why=max(failed, key=lambda row: row["failed_at"] or 0)["trouble"] if failed else None,
        last_good=moment(max((row["good_at"] or 0 for row in rows), default=0)),
    )
