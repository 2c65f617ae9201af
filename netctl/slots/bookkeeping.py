"""Writes to the key store after the reply: failures of keys and servers, and keys that work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from fleet import log
from fleet.errors import KeyStoreFailed
from netctl.pool.contract import Lease
from netctl.pool.threaded import ThreadedPool
from netctl.slots.servers import Servers
from netctl.slots.slot import Slot
from netctl.slots.suspects import Suspects

LATER_SECONDS = 0.02
"""How long after the reply the store is written: that takes 3 ms, for which no worker needs to wait."""


class Bookkeeping:
    """The writes for all slots."""

    def __init__(self, pool: ThreadedPool, servers: Servers) -> None:
        self._pool = pool
        self._servers = servers
        self._log = log.get("netctl")
        self._writing: set[asyncio.Task[None]] = set()

    def later(self, write: Callable[[], Awaitable[None]]) -> None:
        """Call WRITE after LATER_SECONDS, so that no reply waits for it; logs KeyStoreFailed."""
        task = asyncio.ensure_future(self._write(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(LATER_SECONDS)
        try:
            await write()
        except KeyStoreFailed as error:
            self._log.error("key.not_written", error=str(error))

    def failed(self, action: str, lease: Lease, why: str, slot: Slot | None = None) -> None:
        """Log that LEASE's key has failed, and store that together with what is aside now."""
        worker = {"worker": slot.worker.name} if slot else {}
        self._log.warning(action, **worker, file=lease.origin, key=lease.key_id, server=lease.key.server, reason=why)
        self.later(partial(self._pool.note, lease, why, self._servers.aside_seconds()))

    def put_aside(self, suspects: Suspects) -> None:
        """Put the keys aside that have failed, now that it is known that the keys are at fault."""
        for lease, why in suspects.guilty():
            self._servers.failed(lease)
            self.failed("key.put_aside", lease, why)

    def given_up(self, slot: Slot, lease: Lease) -> None:
        """Record that LEASE's server no longer answers SLOT, after everything was tried with this key."""
        self._servers.silent(slot, lease, [lease.key.server])
        self.failed("server.silent", lease, f"{lease.endpoint} no longer answers", slot)
