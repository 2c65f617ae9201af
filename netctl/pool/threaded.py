"""The pool over a store whose calls block: all calls run in one thread, each with a deadline."""

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
"""How long a caller waits at most. The store itself gives up a little earlier, with the reason (schema.File)."""
OPEN_SECONDS = 60.0
"""Opening checks the whole file, and no worker is served yet."""
T = TypeVar("T")
P = TypeVar("P")


class ThreadedPool:
    """The keys and their leases. A slot is named by its worker's UID.

    Every method raises KeyStoreFailed when the store fails or does not answer in time. One thread makes calls take
    effect one after the other, in their order. A call whose caller was cancelled or timed out takes effect before
    later ones, or never: so if such a take() has leased a key, the ending() that follows it ends that lease.
    """

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
        """Choose a key and lease it to the slot; None when none is free.

        The lease that the slot held until now is `ending`.
        """
        # Callers that come while the store is busy continue at the same moment, so they also share one read of the
        # kernel's state (netctl.host).
        return (await self._together(self._take, wish))[wish]

    async def renew(self, lease: Lease) -> None:
        """Store the owner and the endpoint that LEASE has now."""
        await self._run(partial(self._store.renew, lease))

    async def ending(self, uid: int) -> None:
        """Set the slot's lease to `ending`: it must not be used any more, and its key is not free yet."""
        await self._run(partial(self._store.ending, uid))

    async def ended(self, uid: int, *, before: int | None = None) -> None:
        """The device has confirmed: end the `ending` leases of the slot. Their keys rest, then are free.

        With BEFORE, only leases of an earlier generation: the lease of that generation carries a tunnel now.
        """
        await self._together(self._ended, (uid, before))

    async def held(self) -> list[Lease]:
        """Every lease that is held."""
        return await self._run(self._store.held)

    async def unfinished(self) -> list[int]:
        """Slots with leases that are `ending`."""
        return await self._run(self._store.unfinished)

    async def note(self, lease: Lease, why: str, aside: Mapping[Hashable, float]) -> None:
        """Record WHY LEASE's key has failed, and for how many seconds its server, its row or its key is put ASIDE."""
        await self._run(partial(self._store.note, lease, why, aside))

    async def claim(self, lease: Lease, address: Address, since: float) -> bool:
        """Record that the worker of LEASE claims the exit ADDRESS for its key.

        Returns whether another worker claimed the same, with a lease of its own, after SINCE (wall clock, seconds).
        """
        return await self._run(partial(self._store.claim, lease, address, since))

    async def learn_exit(self, key_id: int, address: Address) -> None:
        """Record ADDRESS as the key's exit, unless its file names one, and delete the claims about it."""
        await self._run(partial(self._store.learn_exit, key_id, address))

    async def numbers(self) -> PoolStatus:
        """The numbers of keys: all, leased, resting, free."""
        return await self._run(partial(self._store.numbers, self._cooldown_seconds))

    async def servers(self) -> list[ServerKeys]:
        """The counts of the keys at each server."""
        return await self._run(partial(self._store.servers, self._cooldown_seconds))

    async def is_there(self, server: str | None) -> bool:
        """Whether a key of SERVER, or of a region of that name, may become free; None: any key."""
        return await self._run(partial(self._store.is_there, server))

    async def of_service(self, work: Callable[[sa.Connection, float], T]) -> T:
        """Run WORK, a function of netctl.pool.issued; it delays leases no more than any other call."""
        return await self._run(partial(self._store.of_service, work))

    async def close(self) -> None:
        """Close the store; one that does not answer is left as it is."""
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
    """WORK for many callers in one transaction. Returns a KeyStoreFailed, so that it is not retried for each caller."""

    def run(payloads: Sequence[P]) -> T | KeyStoreFailed:
        try:
            return work(payloads)
        except KeyStoreFailed as error:
            return error

    return run


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """Turn a timeout of the store into KeyStoreFailed."""
    try:
        yield
    except asyncio.TimeoutError:
        raise KeyStoreFailed(
            "the key store did not answer in time", hint="does another program hold it, or does its disk hang?"
        ) from None
