"""What each request does: which worker may have which tunnel, and the reply. Tunnels are in netctl.slots.tunnels."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace

from fleet import log
from fleet.backends import Backend
from fleet.errors import KeyStoreFailed, NotAllowed, TunnelLost, UsageError
from fleet.machine import processes
from fleet.model import Fleet
from fleet.sockets.callers import Connection
from fleet.sockets.deadline import within
from fleet.sockets.netctl_api import (
    MOST_SERVERS,
    AnotherExit,
    Connect,
    KeysByServer,
    NetctlStatus,
    PoolStatus,
    Proved,
    Rotate,
    Servers,
    SlotStatus,
    StartBrowser,
    Status,
    Stuck,
    Tunnel,
)
from fleet.sockets.wire import Done
from netctl.exits.judge import Judge
from netctl.exits.path import PathLook
from netctl.host import ipv6_stack
from netctl.pool.contract import Lease
from netctl.pool.threaded import ThreadedPool
from netctl.slots.slot import Event, Slot, SlotState
from netctl.slots.tunnels import Tunnels
from netctl.turns import Queue

FREED_SECONDS = 2.0
"""How long a new connection waits until the end of its worker's old connection has been handled."""
NUMBERS_SECONDS = 1.0
"""How long a status request waits for the key store: its reader wants to see the slots above all."""


class NetctlService:
    """Handles netctl's requests: one method for each row of fleet.sockets.netctl_api.TABLE (see rpc.Service)."""

    def __init__(
        self, *, fleet: Fleet, pool: ThreadedPool, tunnels: Tunnels, backend: Backend, judge: Judge, path: PathLook
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._judge, self._path = judge, path
        self._backend = backend
        self._log = log.get("netctl")
        self._turns = Queue(fleet.browser.starts_at_once or os.cpu_count() or 1)
        self.tunnels = tunnels
        self.slots = tunnels.slots
        self.stopping = False
        """True: connections end because netctl stops, so their tunnels stay for the next netctl to adopt."""

    async def closed(self, connection: Connection) -> None:
        """See fleet.sockets.rpc.Service. A lease lasts as long as its connection: seal the slot."""
        self._turns.leave(connection)
        slot = self.slots.get(connection.peer.uid)
        if slot is None or self.stopping or slot.owner is not connection:
            return
        async with slot.lock:
            if slot.owner is connection:
                await self.tunnels.seal(slot, "its worker hung up")

    # --- requests

    async def connect(self, connection: Connection, request: Connect) -> Tunnel:
        """A tunnel with a new key, or the existing one that the request resumes."""
        started = time.monotonic()
        slot = self.slots[connection.peer.uid]
        if slot.owner is not None:
            await self._wait_until_free(slot, connection)
        async with slot.lock:
            if slot.owner is not None:
                raise _owned(slot)
            if request.resume is not None:
                return await self._resume(slot, connection, request.resume, request.server)
            if slot.state is SlotState.ORPHANED:
                await self.tunnels.seal(slot, "its worker connected again without resuming it")
            slot.own(connection, request.server)
            slot.step(Event.CONNECT)
            return await self._answer(slot, started)

    async def _wait_until_free(self, slot: Slot, connection: Connection) -> None:
        if slot.owner is connection:
            raise NotAllowed("this connection has a tunnel already", hint="rotate it, or hang up first")
        try:
            await within(FREED_SECONDS, slot.freed.wait())
        except asyncio.TimeoutError:
            raise _owned(slot) from None

    async def _resume(self, slot: Slot, connection: Connection, lease: str, server: str | None) -> Tunnel:
        if slot.state is not SlotState.ORPHANED or slot.lease is None or slot.lease.id != lease:
            raise TunnelLost("that lease has ended", hint="connect again, without resume")
        resumed = replace(slot.lease, owner=processes.owner_of(connection.peer.pid))
        # Before the slot gets its owner: if the store fails, the slot stays as it is and the worker may ask again.
        await self._pool.renew(resumed)
        slot.lease = resumed
        slot.own(connection, server)
        slot.step(Event.RESUME)
        self._log.info("slot.resumed", worker=slot.worker.name, lease=lease)
        return self._tunnel(slot, resumed)

    async def rotate(self, connection: Connection, _: Rotate) -> Tunnel:
        """Give the caller's tunnel another key."""
        started = time.monotonic()
        slot = self.slots[connection.peer.uid]
        async with slot.lock:
            if slot.owner is not connection:
                raise TunnelLost("this connection holds no tunnel", hint="connect first")
            slot.step(Event.ROTATE)
            tunnel = await self._answer(slot, started)
            return tunnel.model_copy(update={"rotate_ms": round((time.monotonic() - started) * 1000, 1)})

    async def another_exit(self, _: Connection, request: AnotherExit) -> Done:
        """End the tunnel and the connection of a worker, at the wish of a person at the hub's page."""
        if "rotate" not in self._fleet.hub.web.acts:
            raise NotAllowed("hub.web.acts does not name rotate")
        found = [slot for slot in self.slots.values() if slot.worker.name == request.worker]
        if not found:
            raise UsageError(f"there is no worker {request.worker!r}")
        async with found[0].lock:
            owner = found[0].owner
            if owner is None:
                raise TunnelLost(f"{request.worker} has no tunnel now")
            await self.tunnels.seal(found[0], "another exit was asked for on the page")
        owner.hang_up()
        return Done()

    async def proved(self, connection: Connection, request: Proved) -> Done:
        """The worker reports the address that the internet sees: a claim, which netctl checks. Raises WrongExit."""
        slot, lease = self._held(connection)
        await self._judge.heard(slot, lease, request.address)
        return Done()

    async def stuck(self, connection: Connection, _: Stuck) -> Done:
        """The worker reports that nothing answers: a claim, after which netctl checks the path. Raises NoWay."""
        await self._path.look(*self._held(connection))
        return Done()

    def _held(self, connection: Connection) -> tuple[Slot, Lease]:
        """The slot and the lease that CONNECTION holds; raises TunnelLost."""
        slot = self.slots[connection.peer.uid]
        if slot.owner is not connection or slot.lease is None:
            raise TunnelLost("this connection holds no tunnel", hint="connect first")
        return slot, slot.lease

    async def start_browser(self, connection: Connection, _: StartBrowser) -> Done:
        """Reply when the caller's turn to start a browser has come."""
        await self._turns.wait(connection)
        return Done()

    async def keys_by_server(self, _: Connection, request: KeysByServer) -> Servers:
        """The keys of each server by state; raises KeyStoreFailed."""
        found = await self._pool.servers()
        return Servers(servers=tuple(found[:MOST_SERVERS]), more=max(0, len(found) - MOST_SERVERS))

    async def status(self, connection: Connection, _: Status) -> NetctlStatus:
        """What netctl knows. It asks no device and waits only NUMBERS_SECONDS for the key store, so it never hangs."""
        own = self.slots.get(connection.peer.uid)
        pool, trouble = (None, "") if own else await self._pool_status()
        return NetctlStatus(
            backend=self._backend.name,
            pid=os.getpid(),
            slots=tuple(map(self._slot_status, [own] if own else self.slots.values())),
            pool=pool,
            pool_trouble=trouble,
            turns=None if own else self._turns.seen(),
        )

    async def _pool_status(self) -> tuple[PoolStatus | None, str]:
        """The pool's counts, or why they are not known."""
        try:
            found = await within(NUMBERS_SECONDS, self._pool.numbers())
        except KeyStoreFailed as error:
            return None, error.message
        except asyncio.TimeoutError:
            return None, f"the key store did not answer within {NUMBERS_SECONDS:g} s"
        return found.model_copy(update={"servers_aside": self.tunnels.servers.aside_names()}), ""

    def _slot_status(self, slot: Slot) -> SlotStatus:
        reading = slot.reading if slot.lease else None
        lease = slot.lease
        return SlotStatus(
            worker=slot.worker.name,
            interface=self.tunnels.interface(slot),
            state="repairing" if slot.repairing else slot.state.value,
            exit_server=lease.key.server if lease else None,
            exit_address=self._judge.exit_of(lease) if lease else None,
            lease=lease.id if lease else None,
            generation=slot.generation,
            since=slot.since,
            received_bytes=reading.received_bytes if reading else 0,
            sent_bytes=reading.sent_bytes if reading else 0,
            last_handshake=reading.last_handshake if reading else None,
            counted_at=slot.counted_at if reading else None,
        )

    # --- replies

    async def _answer(self, slot: Slot, started: float) -> Tunnel:
        lease = await self.tunnels.renew(slot, started + self._fleet.netctl.request_deadline_seconds)
        tunnel = self._tunnel(slot, lease)
        self._judge.leased(slot, lease)
        self._log.info(
            "slot.connected",
            worker=slot.worker.name,
            server=tunnel.exit_server,
            file=lease.origin,
            generation=slot.generation,
            handshake_ms=tunnel.handshake_ms,
            answer_ms=round((time.monotonic() - started) * 1000, 1),
        )
        return tunnel

    def _tunnel(self, slot: Slot, lease: Lease) -> Tunnel:
        return Tunnel(
            exit_server=lease.key.server,
            exit_address=self._judge.exit_of(lease),
            exit_address_v6=lease.key.exit_address_v6,
            carries_ipv6=lease.key.address_v6 is not None and ipv6_stack() == "on",
            lease=lease.id,
            handshake_ms=slot.handshake_ms,
        )


def _owned(slot: Slot) -> NotAllowed:
    pid = slot.owner.peer.pid if slot.owner else 0
    return NotAllowed(f"{slot.worker.name} has a tunnel already, held by process {pid}", hint=f"stop it: kill {pid}")
