"""Ends what a worker's placeholder source still has in the kernel when its exit changes: sockets, conntrack entries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fleet import log
from fleet.errors import SpaceGone
from fleet.model import Fleet, Worker
from netctl.kernel.connections import Connections, Leased, Source, Sweep
from netctl.kernel.setns import Spaces
from netctl.plan.key import Key
from netctl.pool.contract import Lease
from netctl.threads import WorkThread

SOCKETS_SECONDS = 5.0
CONNTRACK_SECONDS = 30.0
"""A sweep takes 12 ms, and every worker's may wait in one row."""
GATHERED_SECONDS = 0.5
"""Sweeps that nobody waits for begin together, so often: 32 rotations at once cost one walk over the table."""


class Endings:
    """The endings of all workers, in a thread for each kind of raw socket, so that each has one user at a time."""

    def __init__(self, fleet: Fleet, spaces: Spaces) -> None:
        self._fleet = fleet
        self._connections = Connections(spaces)
        self._sockets, self._conntrack = WorkThread("sockets"), WorkThread("conntrack")
        self._sweeps: set[asyncio.Future[None]] = set()
        self._log = log.get("netctl")

    async def end_sockets(self, worker: Worker) -> None:
        """Abort every socket of WORKER's source. A kernel that refuses leaves them to their time-outs."""
        # Listing them costs the same for one worker and for many: those who come together share it.
        source = self._source(worker)
        work = self._sockets.run_together(self._connections.end_sockets, source, SOCKETS_SECONDS)
        await self._told("sockets.ended", work)

    async def sweep(self, worker: Worker) -> None:
        """Abort every socket and conntrack entry of WORKER's source."""
        await self.end_sockets(worker)
        await self._end_connections(worker)

    async def sweep_first(self, worker: Worker, old: Lease | None, lease: Lease) -> None:
        """Where OLD has an address of LEASE's: sweep() while LEASE's gate is shut. Later nobody tells which is whose.

        Many providers give a client the same address at all of their servers.
        """
        if old is not None and _share(old.key, lease.key):
            await self.sweep(worker)

    def sweep_later(self, worker: Worker, old: Lease | None, lease: Lease) -> None:
        """End WORKER's conntrack entries of OLD, the one before LEASE, in a moment: 12 ms that no reply needs.

        Until they are gone the table's last chain drops what they translate.
        """
        if old is None or _share(old.key, lease.key):
            return
        sweep = asyncio.ensure_future(self._gathered(worker, (old.key.address, old.key.address_v6)))
        self._sweeps.add(sweep)
        sweep.add_done_callback(self._sweeps.discard)

    async def _gathered(self, worker: Worker, leased: Leased) -> None:
        await asyncio.sleep(GATHERED_SECONDS - asyncio.get_running_loop().time() % GATHERED_SECONDS)
        await self._end_connections(worker, leased)

    async def _end_connections(self, worker: Worker, leased: Leased | None = None) -> None:
        sweep = Sweep(self._source(worker), leased)
        work = self._conntrack.run_together(self._connections.end_tracked, sweep, CONNTRACK_SECONDS)
        await self._told("conntrack.ended", work)

    def _source(self, worker: Worker) -> Source:
        return Source(self._fleet.walls.space(worker), *worker.placeholders)

    async def _told(self, action: str, work: Awaitable[int]) -> None:
        try:
            count = await work
        except (OSError, SpaceGone, asyncio.TimeoutError) as error:
            # The gate and the table's last chain hold all the same.
            self._log.warning(f"{action}.failed", error=str(error) or "the kernel did not answer in time")
        else:
            self._log.debug(action, count=count)

    async def close(self) -> None:
        """Finish the sweeps that were begun, and let the threads end."""
        if self._sweeps:
            await asyncio.wait(self._sweeps, timeout=SOCKETS_SECONDS)
        self._sockets.close()
        self._conntrack.close()


def _share(old: Key, new: Key) -> bool:
    return old.address == new.address or (old.address_v6 is not None and old.address_v6 == new.address_v6)
