"""Ends the sockets and conntrack entries of a worker's placeholder address when its exit changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from fleet import log
from fleet.errors import SpaceGone
from fleet.model import Fleet, Worker
from fleet.sockets.deadline import within
from netctl.kernel.connections import Connections, Source, Sweep
from netctl.kernel.setns import Spaces
from netctl.plan.desired import zone
from netctl.threads import WorkThread

SOCKETS_SECONDS = 5.0
CONNTRACK_SECONDS = 30.0
"""A sweep takes 12 ms, and the sweeps of all workers may be queued one after the other."""
GATHERED_SECONDS = 10.0
"""Sweeps for which no caller waits share one walk over the conntrack table, at most one in this time."""


class Endings:
    """Endings for all workers, with one thread for each kind of netlink socket, so that each has one user at a time."""

    def __init__(self, fleet: Fleet, spaces: Spaces) -> None:
        self._fleet = fleet
        self._connections = Connections(spaces)
        self._sockets, self._conntrack = WorkThread("sockets"), WorkThread("conntrack")
        self._over: list[Sweep] = []
        self._sweeping: asyncio.Future[None] | None = None
        self._closing = asyncio.Event()
        self._log = log.get("netctl")

    async def end_sockets(self, worker: Worker) -> None:
        """Abort every socket of WORKER's source. If the kernel refuses, they end by their timeouts."""
        # Listing sockets costs the same for one worker and for many, so calls that come together share it.
        source = self._source(worker)
        work = self._sockets.run_together(self._connections.end_sockets, source, SOCKETS_SECONDS)
        await self._told("sockets.ended", work)

    async def sweep(self, worker: Worker) -> None:
        """Abort every socket and delete every conntrack entry of WORKER's source."""
        await self.end_sockets(worker)
        await self._end_connections(Sweep(self._source(worker)))

    def sweep_later(self, worker: Worker, generation: int) -> None:
        """Delete the conntrack entries of WORKER's lease of that GENERATION later: no reply waits for these 12 ms.

        No packet matches them meanwhile: the next lease has another zone.
        """
        self._over.append(Sweep(self._source(worker), zone(worker, generation)))
        if self._sweeping is None:
            self._sweeping = asyncio.ensure_future(self._sweep_gathered())

    async def _sweep_gathered(self) -> None:
        while self._over:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(GATHERED_SECONDS, self._closing.wait())
            over, self._over = self._over, []
            await asyncio.gather(*map(self._end_connections, over))
        self._sweeping = None

    async def _end_connections(self, sweep: Sweep) -> None:
        work = self._conntrack.run_together(self._connections.end_tracked, sweep, CONNTRACK_SECONDS)
        await self._told("conntrack.ended", work)

    def _source(self, worker: Worker) -> Source:
        return Source(self._fleet.walls.space(worker), *worker.placeholders)

    async def _told(self, action: str, work: Awaitable[int]) -> None:
        try:
            count = await work
        except (OSError, SpaceGone, asyncio.TimeoutError) as error:
            # The gate and the table's chain `last` still block old packets.
            self._log.warning(f"{action}.failed", error=str(error) or "the kernel did not answer in time")
        else:
            self._log.debug(action, count=count)

    async def close(self) -> None:
        """Finish the sweeps that have begun, and let the threads end."""
        self._closing.set()
        if self._sweeping is not None:
            await asyncio.wait({self._sweeping}, timeout=SOCKETS_SECONDS)
        self._sockets.close()
        self._conntrack.close()
