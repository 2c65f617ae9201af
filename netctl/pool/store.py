"""The key pool and its leases: one SQLite file that only netctl can read.

The invariants are in the schema (netctl/pool/schema.py): a key has at most one lease that has not ended, over all its
servers, and a slot at most one that is held. netctl/pool/choice.py chooses keys. The methods on leases are described
in netctl/pool/threaded.py under the same names.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from fleet.sockets.netctl_api import PoolStatus, ServerKeys
from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint, Key
from netctl.pool import by_server, choice, exits, issued, leases, schema, updates
from netctl.pool.contract import Lease, WholeKey, Wish
from netctl.pool.lines import KeyLine, key_in, lines
from netctl.pool.schema import keys as _keys
from netctl.pool.schema import leases as _leases
from netctl.pool.updates import Found, Imported

T = TypeVar("T")
KEPT_LEASES = 20
"""How many ended leases of a slot are kept: enough to know its generation and its last server."""


class Store:
    """The key store's file. Every method is one transaction; an instance belongs to one thread."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = schema.clock) -> None:
        self._clock = clock
        self._file = schema.File(path)
        self._unreadable: set[int] = set()
        """Ids of rows whose key cannot be read; they are not chosen."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- leases

    def take(self, wishes: Sequence[Wish], cooldown_seconds: float) -> dict[Wish, Lease | None]:
        with self._file.begin() as db:
            now = self._clock()
            free = choice.Free(db, now=now, cooldown_seconds=cooldown_seconds, unreadable=self._unreadable)
            return {wish: self._take(db, wish, free, now) for wish in wishes}

    def _take(self, db: sa.Connection, wish: Wish, free: choice.Free, now: float) -> Lease | None:
        while True:
            chosen = free.choose(wish)
            if chosen is None:
                return None
            if isinstance(key := key_in(chosen.row), Key):
                break
            self._unreadable.add(chosen.key_id)
            db.execute(sa.update(_keys).where(_keys.c.id == chosen.key_id).values(trouble=key, failed_at=time.time()))
        leases.ending(db, wish.uid)
        values = {
            "id": secrets.token_hex(8),
            "key_id": chosen.key_id,
            "public": chosen.row["public"],
            "slot": wish.uid,
            "generation": chosen.latest + 1,
            "endpoint_host": key.server,
            "endpoint_port": key.port,
            "owner": wish.owner,
            "state": "held",
            "began_at": now,
        }
        leases.begin(db, values)
        free.lease(chosen)
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
        """SLOTS: pairs of UID and BEFORE, see ThreadedPool.ended."""
        with self._file.begin() as db:
            leases.ended(db, slots, self._clock(), KEPT_LEASES)
            held = [(uid, before) for uid, before in slots if before is not None]
            leases.good(db, held, datetime.now().astimezone())

    def held(self) -> list[Lease]:
        columns = (*_leases.c, *(column for column in _keys.c if column.name not in ("id", "public")))
        query = sa.select(*columns).join(_keys, _leases.c.key_id == _keys.c.id).where(_leases.c.state == "held")
        with self._file.begin(reading=True) as db:
            rows = db.execute(query).mappings().all()
        # A lease whose row cannot be read ends when its slot gets its next lease.
        return [_lease(row, key) for row in rows if isinstance(key := key_in(row), Key)]

    def unfinished(self) -> list[int]:
        with self._file.begin(reading=True) as db:
            return list(db.scalars(sa.select(_leases.c.slot).where(_leases.c.state == "ending").distinct()))

    def note(self, lease: Lease, why: str, aside: Mapping[Hashable, float]) -> None:
        now = time.time()
        about = (
            (_keys.c.server == lease.key.server, lease.key.server),
            (_keys.c.public == lease.public, WholeKey(lease.public)),
            (_keys.c.id == lease.key_id, lease.key_id),
        )
        with self._file.begin() as db:
            for which, name in about:
                until = now + aside.get(name, 0)
                later = sa.and_(which, sa.func.coalesce(_keys.c.aside_until, 0) < until)
                db.execute(sa.update(_keys).where(later).values(aside_until=until))
            failed = sa.update(_keys).where(_keys.c.id == lease.key_id)
            db.execute(failed.values(failed_at=now, trouble=why))

    def claim(self, lease: Lease, address: Address, since: float) -> bool:
        with self._file.begin() as db:
            return exits.claim(db, lease.key_id, lease.uid, address, since)

    def learn_exit(self, key_id: int, address: Address) -> None:
        with self._file.begin() as db:
            exits.learn(db, key_id, address)

    def numbers(self, cooldown_seconds: float) -> PoolStatus:
        with self._file.begin(reading=True) as db:
            keys, leased, servers, cooling = choice.numbers(db, now=self._clock(), cooldown_seconds=cooldown_seconds)
            service = issued.trouble(db)
        free = keys - leased - cooling
        return PoolStatus(keys=keys, leased=leased, cooling=cooling, free=free, servers=servers, service=service)

    def servers(self, cooldown_seconds: float) -> list[ServerKeys]:
        """See netctl.pool.by_server."""
        with self._file.begin(reading=True) as db:
            return by_server.servers(db, now=self._clock(), cooldown_seconds=cooldown_seconds)

    def is_there(self, server: str | None) -> bool:
        with self._file.begin(reading=True) as db:
            return choice.is_there(db, server)

    def of_service(self, work: Callable[[sa.Connection, float], T]) -> T:
        """Run WORK, a function of netctl.pool.issued, with the connection and the store's time."""
        with self._file.begin() as db:
            return work(db, self._clock())

    # --- keys, for the commands

    def add(self, found: Sequence[Found], *, dry_run: bool = False) -> Imported:
        """See netctl.pool.updates; with DRY_RUN nothing is changed."""
        with self._file.begin() as db:
            done = updates.add(db, found)
            if dry_run:
                db.rollback()
            return done

    def forget_exits(self, ids: Sequence[int]) -> None:
        """See netctl.pool.exits.forget."""
        with self._file.begin() as db:
            exits.forget(db, ids)

    def remove(self, ids: Sequence[int]) -> list[int]:
        """Delete rows. Leased ones are deleted when their lease ends; returns these."""
        with self._file.begin() as db:
            leased = [one for one in ids if updates.is_leased(db, one)]
            db.execute(sa.update(_keys).where(_keys.c.id.in_(leased)).values(leaving=1))
            db.execute(sa.delete(_keys).where(_keys.c.id.in_(ids), _keys.c.id.not_in(leased)))
        return leased

    def retire(self, ids: Sequence[int], *, back: bool = False) -> None:
        """Stop choosing these rows; with BACK choose them again, also those that are aside."""
        values = {"retired": 0, "aside_until": None} if back else {"retired": 1}
        with self._file.begin() as db:
            db.execute(sa.update(_keys).where(_keys.c.id.in_(ids)).values(values))

    def lines(self, cooldown_seconds: float = 0) -> list[KeyLine]:
        """See netctl.pool.lines."""
        with self._file.begin(reading=True) as db:
            return lines(db, now=self._clock(), cooldown_seconds=cooldown_seconds)


def _lease(values: Mapping[Any, Any], key: Key) -> Lease:
    return Lease(
        id=values["id"],
        uid=values["slot"],
        key_id=values["key_id"],
        key=key,
        public=values["public"],
        origin=values["origin"],
        generation=values["generation"],
        endpoint=Endpoint(values["endpoint_host"], values["endpoint_port"]),
        owner=values["owner"],
        learned_at=values["learned_at"],
    )
