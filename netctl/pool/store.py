"""The key pool and its leases: one SQLite file that only netctl can read.

The invariants are in the schema (netctl/pool/schema.py): a key has at most one lease that has not ended, a
slot at most one that is held. Choosing a key is one query (netctl/pool/choice.py). What the methods on leases mean:
netctl/pool/contract.py, whose names they have.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fleet.netctl_api import PoolStatus
from fleet.wire import Address
from netctl.plan.key import Endpoint, Key
from netctl.pool import choice, exits, leases, schema
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
    """There already, and have something from the file that they lacked: its IPv6 address, an exit."""
    there: tuple[str, ...]
    """There already, with nothing to learn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key for people: nothing secret in it."""

    public_key: str
    server: str
    address: IPv4Address | None
    """None where its row cannot be read."""
    address_v6: IPv6Address | None
    exit_address: Address | None
    exit_address_v6: IPv6Address | None
    origin: str
    leased_to: str | None
    learned_at: datetime | None
    """When the exit was learned; None: it is that of the key's file, or not known."""
    trouble: str | None
    """Why it was put aside last."""


_SHOWN = tuple(one.name for one in fields(KeyLine))
_NOT_READ: dict[str, Any] = dict.fromkeys(("address", "address_v6", "exit_address", "exit_address_v6"))


class Store:
    """The file. Every method is one transaction; an instance belongs to one thread."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = schema.clock) -> None:
        self._clock = clock
        self._file = schema.File(path)
        self._unreadable: set[int] = set()
        """Keys that are no keys; they are not chosen."""

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    # --- leases

    def take(self, wishes: Sequence[Wish], cooldown_seconds: float) -> dict[Wish, Lease | None]:
        with self._file.begin() as db:
            return {wish: self._take(db, wish, cooldown_seconds) for wish in wishes}

    def _take(self, db: sa.Connection, wish: Wish, cooldown_seconds: float) -> Lease | None:
        now = self._clock()
        while True:
            chosen = choice.choose(db, wish, now=now, cooldown_seconds=cooldown_seconds, unreadable=self._unreadable)
            if chosen is None:
                return None
            if isinstance(key := _key(chosen.row), Key):
                break
            self._unreadable.add(chosen.key_id)
            db.execute(sa.update(_keys).where(_keys.c.id == chosen.key_id).values(trouble=key))
        leases.ending(db, wish.uid)
        values = {
            "id": secrets.token_hex(8),
            "key_id": chosen.key_id,
            "slot": wish.uid,
            "generation": chosen.latest + 1,
            "endpoint_host": key.server,
            "endpoint_port": key.port,
            "owner": wish.owner,
            "state": "held",
            "began_at": now,
        }
        leases.begin(db, values)
        return _lease({**chosen.row, **values}, key)

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
            rows = db.execute(query).mappings().all()
        # The lease of a row that holds no key ends with its slot's next one.
        return [_lease(row, key) for row in rows if isinstance(key := _key(row), Key)]

    def unfinished(self) -> list[int]:
        with self._file.begin(reading=True) as db:
            return list(db.scalars(sa.select(_leases.c.slot).where(_leases.c.state == "ending").distinct()))

    def note(self, key_id: int, trouble: str | None) -> None:
        with self._file.begin() as db:
            db.execute(sa.update(_keys).where(_keys.c.id == key_id).values(trouble=trouble))

    def claim(self, lease: Lease, address: Address, since: float) -> bool:
        with self._file.begin() as db:
            return exits.claim(db, lease.key_id, lease.uid, address, since)

    def learn_exit(self, key_id: int, address: Address) -> None:
        with self._file.begin() as db:
            exits.learn(db, key_id, address)

    def numbers(self, cooldown_seconds: float) -> PoolStatus:
        with self._file.begin(reading=True) as db:
            keys, leased, servers, cooling = choice.numbers(db, now=self._clock(), cooldown_seconds=cooldown_seconds)
        return PoolStatus(keys=keys, leased=leased, cooling=cooling, free=keys - leased - cooling, servers=servers)

    # --- keys, for the commands

    def add(self, keys: Sequence[tuple[str, Key]]) -> Imported:
        """Add KEYS, each with its origin; a key that is there is completed by what it lacks."""
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

    def forget_exits(self, publics: Sequence[str] | None) -> tuple[list[str], list[str]]:
        """See netctl.pool.exits.forget."""
        with self._file.begin() as db:
            return exits.forget(db, publics)

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
                learned_at=learned and datetime.fromtimestamp(learned, timezone.utc),
                trouble=row["trouble"],
                **_shown(row),
            )
            for row in rows
            for learned in (row["learned_at"],)
        ]


def _shown(row: Mapping[Any, Any]) -> dict[str, Any]:
    return read(row, _SHOWN) if isinstance(_key(row), Key) else {**_NOT_READ, "server": str(row["server"])}


def _key(row: Mapping[Any, Any]) -> Key | str:
    """The key in ROW; where it holds none, why: that keeps no worker from the other keys."""
    try:
        return key_of(row)
    except Exception as error:  # noqa: BLE001 - whatever one row raises is that row's
        # Not its words: they may repeat what they are about.
        return f"its row in the key store cannot be read ({type(error).__name__}): remove it, import its file again"


def _complete(db: sa.Connection, public: str, key: Key) -> bool:
    """Fill in what the store does not know of IPv6, and the exit that the file names where it is not binding yet.

    Nothing that it knows is changed: a file may be older than the store.
    """
    filled = int(key.exit_address is not None and exits.name(db, public, key.exit_address))
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
        trouble=values["trouble"],
        learned_at=values["learned_at"],
    )
