"""The pool over a store whose calls block: all of them in one thread, each under a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from fleet.errors import KeyStoreFailed
from fleet.sockets.netctl_api import PoolStatus, ServerKeys
from fleet.sockets.wire import Address
from netctl.pool.contract import Lease, Wish
from netctl.pool.store import Store
from netctl.threads import WorkThread

ANSWER_SECONDS = 5.0
"""The longest that a caller waits. The store itself gives up a little earlier, and says why (schema.File)."""
OPEN_SECONDS = 60.0
"""Opening looks at the whole file, and nobody is served yet."""
T = TypeVar("T")
P = TypeVar("P")


class ThreadedPool:
    """See netctl.pool.contract.Pool. One thread: that keeps the order of the calls, also of those given up."""

    def __init__(self, thread: WorkThread, store: Store, cooldown_seconds: float) -> None:
        self._thread = thread
        self._store = store
        self._cooldown_seconds = cooldown_seconds
        self._take, self._ended = _as_one(partial(store.take, cooldown_seconds=cooldown_seconds)), _as_one(store.ended)

    @classmethod
    async def open(cls, make: Callable[[], Store], cooldown_seconds: float) -> ThreadedPool:
        """The pool over the store that MAKE opens; raises what MAKE raises, or KeyStoreFailed."""
        thread = WorkThread("pool")
        try:
            with _named():
                return cls(thread, await thread.run(make, OPEN_SECONDS), cooldown_seconds)
        except BaseException:
            thread.close()
            raise

    async def take(self, wish: Wish) -> Lease | None:
        # Those who come while the store is busy go on at the same moment, and share their look at the kernel too
        # (netctl.host).
        return (await self._together(self._take, wish))[wish]

    async def renew(self, lease: Lease) -> None:
        await self._run(partial(self._store.renew, lease))

    async def ending(self, uid: int) -> None:
        await self._run(partial(self._store.ending, uid))

    async def ended(self, uid: int, *, before: int | None = None) -> None:
        await self._together(self._ended, (uid, before))

    async def held(self) -> list[Lease]:
        return await self._run(self._store.held)

    async def unfinished(self) -> list[int]:
        return await self._run(self._store.unfinished)

    async def note(self, lease: Lease, why: str, aside: Mapping[Hashable, float]) -> None:
        await self._run(partial(self._store.note, lease, why, aside))

    async def claim(self, lease: Lease, address: Address, since: float) -> bool:
        return await self._run(partial(self._store.claim, lease, address, since))

    async def learn_exit(self, key_id: int, address: Address) -> None:
        await self._run(partial(self._store.learn_exit, key_id, address))

    async def numbers(self) -> PoolStatus:
        return await self._run(partial(self._store.numbers, self._cooldown_seconds))

    async def servers(self) -> list[ServerKeys]:
        return await self._run(partial(self._store.servers, self._cooldown_seconds))

    async def is_there(self, server: str | None) -> bool:
        return await self._run(partial(self._store.is_there, server))

    async def of_service(self, work: Callable[[sa.Connection, float], T]) -> T:
        """WORK of netctl.pool.issued, which no lease waits for longer than for any other call."""
        return await self._run(partial(self._store.of_service, work))

    async def close(self) -> None:
        with contextlib.suppress(KeyStoreFailed):
            await self._run(self._store.close)
        self._thread.close()

    async def _run(self, work: Callable[[], T]) -> T:
        with _named():
            return await self._thread.run(work, ANSWER_SECONDS)

    async def _together(self, work: Callable[[Sequence[P]], T | KeyStoreFailed], payload: P) -> T:
        with _named():
            outcome = await self._thread.run_together(work, payload, ANSWER_SECONDS)
        if isinstance(outcome, KeyStoreFailed):
            raise outcome
        return outcome


def _as_one(work: Callable[[Sequence[P]], T]) -> Callable[[Sequence[P]], T | KeyStoreFailed]:
    """WORK for many callers, one transaction: where the store fails, it is not tried again for each of them."""

    def run(payloads: Sequence[P]) -> T | KeyStoreFailed:
        try:
            return work(payloads)
        except KeyStoreFailed as error:
            return error

    return run


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """A store that does not answer has an error of its own."""
    try:
        yield
    except asyncio.TimeoutError:
        raise KeyStoreFailed(
            "the key store did not answer in time", hint="does another program hold it, or does its disk hang?"
        ) from None
