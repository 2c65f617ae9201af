"""The pool over a store whose calls block: all of them in one thread, each under a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

from fleet.errors import KeyStoreFailed
from fleet.netctl_api import PoolStatus
from fleet.wire import Address
from netctl.pool.contract import Lease
from netctl.pool.store import Store
from netctl.threads import WorkThread

ANSWER_SECONDS = 5.0
"""The longest that a caller waits. The store itself gives up a little earlier, and says why (schema.File)."""
T = TypeVar("T")


class ThreadedPool:
    """See netctl.pool.contract.Pool. One thread: that keeps the order of the calls, also of those given up."""

    def __init__(self, thread: WorkThread, store: Store, cooldown_seconds: float) -> None:
        self._thread = thread
        self._store = store
        self._cooldown_seconds = cooldown_seconds

    @classmethod
    async def open(cls, make: Callable[[], Store], cooldown_seconds: float) -> ThreadedPool:
        """The pool over the store that MAKE opens; raises what MAKE raises, or KeyStoreFailed."""
        thread = WorkThread("pool")
        try:
            return cls(thread, await _in_time(thread, make), cooldown_seconds)
        except BaseException:
            thread.close()
            raise

    async def take(
        self, uid: int, owner: str, *, avoid: frozenset[str], aside: Mapping[Hashable, float]
    ) -> Lease | None:
        rest = self._cooldown_seconds
        work = partial(self._store.take, uid, owner, avoid=avoid, aside=aside, cooldown_seconds=rest)
        return await _in_time(self._thread, work)

    async def renew(self, lease: Lease) -> None:
        await _in_time(self._thread, partial(self._store.renew, lease))

    async def ending(self, uid: int) -> None:
        await _in_time(self._thread, partial(self._store.ending, uid))

    async def ended(self, uid: int, *, before: int | None = None) -> None:
        await _in_time(self._thread, partial(self._store.ended, uid, before=before))

    async def held(self) -> list[Lease]:
        return await _in_time(self._thread, self._store.held)

    async def unfinished(self) -> list[int]:
        return await _in_time(self._thread, self._store.unfinished)

    async def learn_exit(self, key_id: int, address: Address) -> None:
        await _in_time(self._thread, partial(self._store.learn_exit, key_id, address))

    async def numbers(self) -> PoolStatus:
        return await _in_time(self._thread, partial(self._store.numbers, self._cooldown_seconds))

    async def close(self) -> None:
        with contextlib.suppress(KeyStoreFailed):
            await _in_time(self._thread, self._store.close)
        self._thread.close()


async def _in_time(thread: WorkThread, work: Callable[[], T]) -> T:
    try:
        return await thread.run(work, ANSWER_SECONDS)
    except asyncio.TimeoutError:
        raise KeyStoreFailed(
            f"the key store did not answer within {ANSWER_SECONDS:g} s", hint="does another program hold it?"
        ) from None
