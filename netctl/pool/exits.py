"""Exit addresses of keys in the store: claims of workers, learned exits, and how they are forgotten.

An exit that a key's file names is binding: nothing here changes it (its `learned_at` is NULL and it has an address).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import sqlalchemy as sa

from fleet.sockets.wire import Address
from netctl.pool.schema import claims, keys

_NOT_BINDING = sa.or_(keys.c.exit_address.is_(None), keys.c.learned_at.is_not(None))


def claim(db: sa.Connection, key_id: int, uid: int, address: Address, since: float) -> bool:
    """Record that worker UID claims the exit ADDRESS for the key. Returns whether another worker did so after SINCE.

    Only the latest claim of each worker for a key is kept, so one worker cannot confirm itself by repeating it.
    """
    mine = sa.and_(claims.c.key_id == key_id, claims.c.slot == uid)
    db.execute(sa.delete(claims).where(mine))
    values = {"key_id": key_id, "slot": uid, "address": str(address), "claimed_at": time.time()}
    db.execute(sa.insert(claims).values(values))
    others = sa.and_(claims.c.key_id == key_id, claims.c.slot != uid, claims.c.address == str(address))
    return db.scalar(sa.select(claims.c.slot).where(others, claims.c.claimed_at > since)) is not None


def learn(db: sa.Connection, key_id: int, address: Address) -> None:
    """Record ADDRESS as the key's exit, unless its file names one."""
    where = sa.and_(keys.c.id == key_id, _NOT_BINDING)
    db.execute(sa.update(keys).where(where).values(exit_address=str(address), learned_at=time.time()))
    db.execute(sa.delete(claims).where(claims.c.key_id == key_id))


def forget(db: sa.Connection, ids: Sequence[int]) -> None:
    """Forget the learned exits of the keys IDS, and all claims about these keys."""
    db.execute(sa.delete(claims).where(claims.c.key_id.in_(ids)))
    learned = sa.and_(keys.c.id.in_(ids), keys.c.learned_at.is_not(None))
    db.execute(sa.update(keys).where(learned).values(exit_address=None, learned_at=None))
