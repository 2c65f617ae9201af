"""The key pool and its leases: one SQLite file that only netctl can read.

The invariants are in the schema (netctl/pool/schema.py): a key has at most one lease that has not ended, a
slot at most one that is held. Choosing a key is one query (netctl/pool/choice.py). What the methods on leases mean:
netctl/pool/contract.py, whose names they have.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fleet.netctl_api import PoolStatus
from fleet.wire import Address
from netctl.plan.key import Endpoint, Key
from netctl.pool import choice, leases, schema
from netctl.pool.columns import key_of, read, row_of
from netctl.pool.contract import Lease, Wish
from netctl.pool.schema import keys as _keys
from netctl.pool.schema import leases as _leases

KEPT_LEASES = 20
"""Ended leases of a slot that are remembered: enough for its generation and its last server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of adding keys, by their origins."""

    new: tuple[str, ...]
    completed: tuple[str, ...]
    """There already, and have learned something from the file: its IPv6 address or exit."""
    there: tuple[str, ...]
    """There already, with nothing to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key for people: nothing secret in it."""

    public_key: str
    server: str
    address: IPv4Address
    address_v6: IPv6Address | None
    exit_address: Address | None
    exit_address_v6: IPv6Address | None
    origin: str
    leased_to: str | None


_SHOWN = tuple(one.name for one in fields(KeyLine))


class Store:
    """The file. Every method is one transaction; an instance belongs to one thread."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = schema.clock) -> None:
        self._clock = clock
        self._file = schema.File(path)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # --- leases

    def take(self, wishes: Sequence[Wish], cooldown_seconds: float) -> dict[Wish, Lease | None]:
        with self._file.begin() as db:
            return {wish: self._take(db, wish, cooldown_seconds) for wish in wishes}

    def _take(self, db: sa.Connection, wish: Wish, cooldown_seconds: float) -> Lease | None:
        now = self._clock()
        chosen = choice.choose(db, wish, now=now, cooldown_seconds=cooldown_seconds)
        if chosen is None:
            return None
        leases.ending(db, wish.uid)
        values = {
            "id": secrets.token_hex(8),
            "key_id": chosen.key_id,
            "slot": wish.uid,
            "generation": chosen.latest + 1,
            "endpoint_host": chosen.key.server,
            "endpoint_port": chosen.key.port,
            "owner": wish.owner,
            "state": "held",
            "began_at": now,
        }
        leases.begin(db, values)
        return _lease(values, chosen.key)

    def renew(self, lease: Lease) -> None:
        host, port = lease.endpoint
        change = sa.update(_leases).values(owner=lease.owner, endpoint_host=host, endpoint_port=port)
        with self._file.begin() as db:
            db.execute(change.where(_leases.c.id == lease.id))

    def ending(self, uid: int) -> None:
        with self._file.begin() as db:
            leases.ending(db, uid)

    def ended(self, slots: Sequence[tuple[int, int | None]]) -> None:
        """SLOTS: UID, and what contract.Pool.ended calls BEFORE."""
        with self._file.begin() as db:
            for uid, before in slots:
                leases.ended(db, uid, before, self._clock(), KEPT_LEASES)

    def held(self) -> list[Lease]:
        columns = (*_leases.c, *(column for column in _keys.c if column.name != "id"))
        query = sa.select(*columns).join(_keys, _leases.c.key_id == _keys.c.id).where(_leases.c.state == "held")
        with self._file.begin(reading=True) as db:
            return [_lease(row, key_of(row)) for row in db.execute(query).mappings()]

    def unfinished(self) -> list[int]:
        with self._file.begin(reading=True) as db:
            return list(db.scalars(sa.select(_leases.c.slot).where(_leases.c.state == "ending").distinct()))

    def learn_exit(self, key_id: int, address: Address) -> None:
        unknown = sa.and_(_keys.c.id == key_id, _keys.c.exit_address.is_(None))
        with self._file.begin() as db:
            db.execute(sa.update(_keys).where(unknown).values(exit_address=str(address)))

    def numbers(self, cooldown_seconds: float) -> PoolStatus:
        with self._file.begin(reading=True) as db:
            keys, leased, servers, cooling = choice.numbers(db, now=self._clock(), cooldown_seconds=cooldown_seconds)
        return PoolStatus(keys=keys, leased=leased, cooling=cooling, free=keys - leased - cooling, servers=servers)

    # --- keys, for the commands

    def add(self, keys: Sequence[tuple[str, Key]]) -> Imported:
        """Add KEYS, each with its origin; a key that is there is completed by what it lacks for IPv6."""
        new: list[str] = []
        completed: list[str] = []
        there: list[str] = []
        with self._file.begin() as db:
            known = set(db.scalars(sa.select(_keys.c.public)))
            for origin, key in keys:
                public = key.private.public()
                if public in known:
                    (completed if _complete(db, public, key) else there).append(origin)
                    continue
                known.add(public)
                new.append(origin)
                db.execute(sa.insert(_keys).values(public=public, origin=origin, **row_of(key)))
        return Imported(new=tuple(new), completed=tuple(completed), there=tuple(there))

    def remove(self, publics: Sequence[str]) -> tuple[list[str], list[str]]:
        """Delete keys by public key: those deleted, and those that are leased and stay."""
        gone, leased = [], []
        with self._file.begin() as db:
            for public in publics:
                key_id = db.scalar(sa.select(_keys.c.id).where(_keys.c.public == public))
                if key_id is None:
                    continue
                busy = sa.and_(_leases.c.key_id == key_id, _leases.c.state != "ended")
                if db.scalar(sa.select(sa.func.count()).select_from(_leases).where(busy)):
                    leased.append(public)
                    continue
                db.execute(sa.delete(_leases).where(_leases.c.key_id == key_id))
                db.execute(sa.delete(_keys).where(_keys.c.id == key_id))
                gone.append(public)
        return gone, leased

    def lines(self) -> list[KeyLine]:
        """Every key for people, by server."""
        holder = sa.select(_leases.c.key_id, _leases.c.slot).where(_leases.c.state != "ended").subquery()
        query = sa.select(_keys, holder.c.slot).outerjoin(holder, holder.c.key_id == _keys.c.id)
        with self._file.begin(reading=True) as db:
            rows = db.execute(query.order_by(_keys.c.server, _keys.c.id)).mappings().all()
        return [
            KeyLine(
                public_key=row["public"],
                origin=row["origin"],
                leased_to=f"w{row['slot']}" if row["slot"] else None,
                **read(row, _SHOWN),
            )
            for row in rows
        ]


def _complete(db: sa.Connection, public: str, key: Key) -> bool:
    """Fill in what the store does not know of IPv6 yet, and nothing it knows: a file may be older than the store."""
    filled = 0
    for column, value in ((_keys.c.address_v6, key.address_v6), (_keys.c.exit_address_v6, key.exit_address_v6)):
        if value is not None:
            unknown = sa.and_(_keys.c.public == public, column.is_(None))
            filled += db.execute(sa.update(_keys).where(unknown).values({column: str(value)})).rowcount
    return filled > 0


def _lease(values: Mapping[Any, Any], key: Key) -> Lease:
    return Lease(
        id=values["id"],
        uid=values["slot"],
        key_id=values["key_id"],
        key=key,
        generation=values["generation"],
        endpoint=Endpoint(values["endpoint_host"], values["endpoint_port"]),
        owner=values["owner"],
    )
