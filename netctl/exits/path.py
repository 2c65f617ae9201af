"""Checks whether a tunnel passes only small packets: its path MTU is below its MTU, and no router reports that.

A worker reports that nothing answers through a tunnel that is up. Then netctl asks the services through that tunnel,
at the same time with packets of the configured size and with smaller ones (TCP_MAXSEG, tcp(7)), which limits the
packets of the answer as well. The request has a header that fills a packet (fleet/outside/seen_address.py); a service's
certificates fill several. If only smaller packets are answered, the largest size that passed becomes the MTU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fleet import log
from fleet.model import Fleet, Worker
from fleet.sockets.deadline import within
from netctl.exits.probe import Seen
from netctl.pool.contract import Lease
from netctl.slots.servers import Servers
from netctl.slots.slot import Slot

LADDER = (1380, 1280, 1200)
"""Sizes to try, in bytes. 1200 passes wherever IPv6 does: 1280 minus the headers of WireGuard, UDP and IPv6 (80)."""
AGAIN_SECONDS = 600.0
"""A server's path is checked at most once in this time, no matter how often workers report."""
LOOKS_AT_ONCE = 2
Through = Callable[[Worker, str, str, int | None], Awaitable[Seen]]
"""Asks through a tunnel, with packets of at most that many bytes: netctl.exits.probe.Probe.through."""


class PathLook:
    """Checks paths. INTERFACE names a slot's link; REQUIRE raises NoWay where this host has no route to the server."""

    def __init__(
        self,
        fleet: Fleet,
        servers: Servers,
        interface: Callable[[Slot], str],
        through: Through,
        require: Callable[[Lease], None],
    ) -> None:
        self._fleet, self._servers, self._interface, self._through = fleet, servers, interface, through
        self._require = require
        self._looked: dict[str, float] = {}
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def look(self, slot: Slot, lease: Lease) -> None:
        """Check the path of SLOT's LEASE, unless that was done lately, within the deadline of a request.

        Raises NoWay where the host has no route to the server: then neither the path nor the site is at fault.
        """
        self._require(lease)
        server, now = lease.key.server, time.monotonic()
        if now - self._looked.get(server, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._looked[server] = now
        try:
            await within(self._fleet.netctl.request_deadline_seconds, self._compare(slot, lease))
        except asyncio.TimeoutError:
            log.get("netctl").warning("path.not_seen", worker=slot.worker.name, server=server)

    async def _compare(self, slot: Slot, lease: Lease) -> None:
        now = min(self._fleet.wireguard.mtu, lease.key.mtu_bytes or self._fleet.wireguard.mtu)
        sizes = [None, *(size for size in LADDER if size < now)]
        space, interface = self._fleet.walls.space(slot.worker), self._interface(slot)
        async with self._turns:
            if self._servers.fitted(lease) != lease:
                return  # another check has found it meanwhile
            seen = await asyncio.gather(*(self._through(slot.worker, interface, space, size) for size in sizes))
        passed = [size for size, one in zip(sizes, seen, strict=True) if one.addresses]
        if passed and passed[0] is not None and slot.lease is not None and slot.lease.id == lease.id:
            self._servers.narrow(lease.key.server, passed[0])
            log.get("netctl").warning(
                "path.narrow", worker=slot.worker.name, server=lease.key.server, was_bytes=now, most_bytes=passed[0]
            )
