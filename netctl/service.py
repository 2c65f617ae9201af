"""What each request does, in order: lease -> sealed gate -> key and peer -> handshake -> open gate -> reply."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import replace
from ipaddress import ip_address

from fleet import log, wire
from fleet.errors import FleetError, HandshakeTimeout, NoKeyFree, NotAllowed, ProtocolError, TunnelError, TunnelLost
from fleet.model import Fleet
from fleet.rpc import Connection
from netctl import choice, owners, state, wireguard
from netctl.keys import Lease, Store
from netctl.reconcile import Reconciler
from netctl.slots import Event, Slot, SlotState
from netctl.wireguard import Backend

FREED_SECONDS = 2.0
"""How long a new connection waits for the end of the old one of its worker to be dealt with."""
POOL_SECONDS = 0.25
"""How often a request that waits for a key looks at the pool: another program may have added one."""
RESOLVE_SECONDS = 5.0
REPAIR_SECONDS = 10.0
LAST_TRY_SECONDS = 0.5
"""With less than this left before the deadline no other key is tried."""


class NetctlService:
    """The service behind netctl's socket (fleet.rpc.Service)."""

    def __init__(self, *, fleet: Fleet, store: Store, reconciler: Reconciler, backend: Backend) -> None:
        self._fleet = fleet
        self._store = store
        self._reconciler = reconciler
        self._backend = backend
        self._log = log.get("netctl")
        self.slots = {worker.uid: Slot(worker=worker) for worker in fleet.members}
        self.stopping = False
        """True: connections end because we do, so their tunnels stay for the next netctl to adopt."""

    async def handle(self, connection: Connection, request: wire.Request) -> wire.Message:
        """See fleet.rpc.Service."""
        if isinstance(request, wire.Connect):
            return await self._connect(connection, request)
        if isinstance(request, wire.Rotate):
            return await self._rotate(connection)
        if isinstance(request, wire.Proved):
            return self._proved(connection, request)
        if isinstance(request, wire.Status):
            return await self._status(connection)
        raise ProtocolError(f"netctl has no method {request.method}")

    async def closed(self, connection: Connection) -> None:
        """See fleet.rpc.Service: the connection was the lease."""
        slot = self.slots.get(connection.peer.uid)
        if slot is None or self.stopping or slot.owner is not connection:
            return
        async with slot.lock:
            if slot.owner is connection:
                await self.seal(slot, "its worker hung up")

    # --- requests

    async def _connect(self, connection: Connection, request: wire.Connect) -> wire.Tunnel:
        started = time.monotonic()
        slot = self.slots[connection.peer.uid]
        if slot.owner is not None:
            await self._wait_until_free(slot, connection)
        async with slot.lock:
            if slot.owner is not None:
                raise _owned(slot)
            if request.resume is not None:
                return self._resume(slot, connection, request.resume, started)
            if slot.state is SlotState.ORPHANED:
                await self.seal(slot, "its worker came back without it")
            slot.own(connection)
            slot.step(Event.CONNECT)
            return await self._new_tunnel(slot, started)

    async def _wait_until_free(self, slot: Slot, connection: Connection) -> None:
        if slot.owner is connection:
            raise NotAllowed("this connection has a tunnel already", hint="rotate it, or hang up first")
        try:
            await asyncio.wait_for(slot.freed.wait(), FREED_SECONDS)
        except asyncio.TimeoutError:
            raise _owned(slot) from None

    def _resume(self, slot: Slot, connection: Connection, lease: str, started: float) -> wire.Tunnel:
        if slot.state is not SlotState.ORPHANED or slot.lease is None or slot.lease.lease != lease:
            raise TunnelLost("that lease has ended", hint="connect again, without resume")
        slot.own(connection)
        slot.step(Event.RESUME)
        self._store.owned(lease, owners.owner_of(connection.peer.pid))
        self._log.info("slot.resumed", worker=slot.worker.name, lease=lease)
        return self._tunnel(slot, slot.lease, started)

    async def _rotate(self, connection: Connection) -> wire.Tunnel:
        started = time.monotonic()
        slot = self.slots[connection.peer.uid]
        async with slot.lock:
            if slot.owner is not connection:
                raise TunnelLost("this connection holds no tunnel", hint="connect first")
            slot.step(Event.ROTATE)
            return await self._new_tunnel(slot, started)

    def _proved(self, connection: Connection, request: wire.Proved) -> wire.Done:
        slot = self.slots[connection.peer.uid]
        if slot.owner is not connection or slot.lease is None:
            raise TunnelLost("this connection holds no tunnel", hint="connect first")
        if slot.lease.key.exit_address is None:
            # Only the first proof counts: a worker cannot change what others have seen.
            self._store.learn_exit(slot.lease.key_id, request.address)
            slot.lease = replace(slot.lease, key=replace(slot.lease.key, exit_address=request.address))
        return wire.Done()

    async def _status(self, connection: Connection) -> wire.NetctlStatus:
        uid = connection.peer.uid
        slots = self.slots.values() if uid == 0 else [self.slots[uid]]
        return wire.NetctlStatus(
            backend=self._backend.name,
            pid=os.getpid(),
            slots=tuple([await self._slot_status(slot) for slot in slots]),
            pool=self._store.pool(self._fleet.netctl.key_cooldown_seconds) if uid == 0 else None,
        )

    async def _slot_status(self, slot: Slot) -> wire.SlotStatus:
        try:
            reading = await self._backend.read(slot.worker.interface)
        except TunnelError:
            reading = None  # a status that hangs on one device would hide the others
        lease = slot.lease
        return wire.SlotStatus(
            worker=slot.worker.name,
            interface=slot.worker.interface,
            state=slot.state.value,
            exit_server=lease.key.server if lease else None,
            exit_address=lease.key.exit_address if lease else None,
            lease=lease.lease if lease else None,
            generation=slot.generation,
            since=slot.since,
            received_bytes=reading.received_bytes if reading else 0,
            sent_bytes=reading.sent_bytes if reading else 0,
            last_handshake=reading.last_handshake if reading else None,
        )

    # --- the tunnel

    async def _new_tunnel(self, slot: Slot, started: float) -> wire.Tunnel:
        """Another key for SLOT, up to the reply; on any error the slot is sealed and nobody's."""
        try:
            deadline = started + self._fleet.netctl.request_deadline_seconds
            await self._reconciler.device_ready(slot.worker, deadline)
            old = slot.lease
            lease = await self._shake_hands(slot, deadline)
            slot.step(Event.READY)
            await self._reconciler.settle(slot.worker, slot.held)
            if old is not None:
                self._reconciler.sweep_later(slot.worker.placeholder, old.key.address)
        except BaseException as error:
            # A hang-up cancels us; sealing has to be finished all the same.
            await asyncio.shield(self.seal(slot, f"no tunnel: {type(error).__name__}"))
            raise
        tunnel = self._tunnel(slot, lease, started)
        self._log.info(
            "slot.connected",
            worker=slot.worker.name,
            server=tunnel.exit_server,
            generation=tunnel.generation,
            handshake_milliseconds=tunnel.handshake_milliseconds,
            total_milliseconds=tunnel.total_milliseconds,
        )
        return tunnel

    async def _shake_hands(self, slot: Slot, deadline: float) -> Lease:
        """Try keys until a server answers; the gate is closed all the while."""
        avoid: frozenset[str] = frozenset()
        while True:
            lease = await self._resolved(await self._take_key(slot, avoid, deadline))
            slot.hold(lease)
            try:
                await self._switch(slot, deadline)
                return lease
            except HandshakeTimeout as error:
                self._log.warning("handshake.failed", worker=slot.worker.name, reason=error.message)
                avoid |= {lease.key.server}
                if deadline - time.monotonic() < LAST_TRY_SECONDS:
                    raise

    async def _switch(self, slot: Slot, deadline: float) -> None:
        """Gate closed, key and peer swapped, the old sources ended, the new server's answer seen."""
        worker, held = slot.worker, slot.held
        assert held is not None
        await self._reconciler.settle(worker, held)
        self._store.ended(worker.uid)  # the device has let go of the old key
        patience = min(self._fleet.wireguard.handshake_timeout_seconds, deadline - time.monotonic())
        ending = asyncio.ensure_future(self._reconciler.end_sockets(worker.placeholder))
        try:
            device = state.device(self._fleet, worker, held)
            seconds = await wireguard.wait_for_handshake(self._backend, device, patience)
        finally:
            await ending
        slot.handshake_milliseconds = round(seconds * 1000, 1)

    async def _take_key(self, slot: Slot, avoid: frozenset[str], deadline: float) -> Lease:
        """Lease a key, waiting until one is free; raises NoKeyFree at the deadline."""
        uid, cooldown = slot.worker.uid, self._fleet.netctl.key_cooldown_seconds
        assert slot.owner is not None
        owner = owners.owner_of(slot.owner.peer.pid)
        last = self._store.last_server(uid)
        while True:
            pool = self._store.candidates()
            chosen = choice.choose(
                pool, last_server=last, avoid=avoid, now=self._store.now(), cooldown_seconds=cooldown
            )
            if chosen is not None:
                return self._store.take(uid, chosen.key_id, owner)
            if not pool:
                raise NoKeyFree("the key pool is empty", hint="netctl keys import PATH...")
            if slot.lease is not None:
                await self._give_back(slot)  # our own old key may be the only one there is
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoKeyFree(
                    f"none of {len(pool)} keys became free in time: each is leased or cooling down",
                    hint="import more keys, or run fewer workers",
                    data=self._store.pool(cooldown).model_dump(mode="json"),
                )
            await asyncio.sleep(min(POOL_SECONDS, left))

    async def _resolved(self, lease: Lease) -> Lease:
        """LEASE with its server's address; providers name servers, and names move."""
        host, port = lease.endpoint
        try:
            ip_address(host)
            return lease
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM), RESOLVE_SECONDS)
        except (OSError, asyncio.TimeoutError):
            raise HandshakeTimeout(f"the server's name {host} has no address", hint="does DNS work?") from None
        endpoint = (str(found[0][4][0]), port)
        self._store.resolved(lease.lease, endpoint)
        return replace(lease, endpoint=endpoint)

    async def _give_back(self, slot: Slot) -> None:
        """The slot's lease ends: gate closed, key and peer gone from the device, then the key is free."""
        slot.lease = None
        self._store.end(slot.worker.uid)
        await self._reconciler.settle(slot.worker, None)
        await self._reconciler.sweep(slot.worker.placeholder)
        self._store.ended(slot.worker.uid)

    async def seal(self, slot: Slot, reason: str) -> None:
        """Nothing leaves, nobody owns it, its key goes back. Call with the slot's lock held."""
        lease = slot.lease
        slot.step(Event.END)
        try:
            await self._give_back(slot)
        except (FleetError, OSError) as error:
            # The gate is closed (that comes first). The lease stays `ending` until a later change of the
            # slot succeeds: a key that may still be in a device is nobody else's.
            self._log.error("slot.seal_unconfirmed", worker=slot.worker.name, error=str(error))
        finally:
            slot.own(None)
        self._log.info("slot.sealed", worker=slot.worker.name, reason=reason, lease=lease.lease if lease else None)

    # --- start and repair

    async def repair(self, uid: int) -> None:
        """A worker's link has come or gone: bring its slice back, once its device answers."""
        slot = self.slots[uid]
        self._reconciler.forget(slot.worker)
        try:
            await self._reconciler.device_ready(slot.worker, time.monotonic() + REPAIR_SECONDS)
            async with slot.lock:
                await self._reconciler.settle(slot.worker, slot.held)
                self._store.ended(uid)
        except FleetError as error:
            self._log.error("slot.repair_failed", worker=slot.worker.name, error=str(error))

    async def adopt(self) -> list[Slot]:
        """Take over what an earlier netctl left; returns the slots whose workers are expected back.

        A lease whose owner still runs stays open; any other ends. Nothing that is as it should be is
        touched, so no address event is sent.
        """
        gone: list[int] = []
        for lease in self._store.held():
            slot = self.slots.get(lease.uid)
            if slot is not None and owners.alive(lease.owner):
                slot.hold(lease)
                slot.step(Event.ADOPT)
            else:
                gone.append(lease.uid)
                self._store.end(lease.uid)
        await self._reconciler.settle_all({uid: slot.held for uid, slot in self.slots.items() if slot.held})
        for uid in gone:
            if uid in self.slots:
                await self._reconciler.sweep(self.slots[uid].worker.placeholder)
        for uid in self._store.unfinished():
            self._store.ended(uid)
        return [slot for slot in self.slots.values() if slot.state is SlotState.ORPHANED]

    async def expire(self, slot: Slot) -> None:
        """Seal an adopted slot when its owner ends, or has not come back within the grace time."""
        lease = slot.lease
        assert lease is not None
        grace = self._fleet.netctl.owner_grace_seconds
        ended = await owners.wait_for_end(lease.owner, grace)
        async with slot.lock:
            if slot.state is SlotState.ORPHANED and slot.lease is lease:
                await self.seal(slot, "its worker ended" if ended else f"its worker did not come back in {grace:g} s")

    def _tunnel(self, slot: Slot, lease: Lease, started: float) -> wire.Tunnel:
        return wire.Tunnel(
            interface=slot.worker.interface,
            exit_server=lease.key.server,
            exit_address=lease.key.exit_address,
            source=slot.worker.placeholder,
            dns=tuple(self._fleet.dns.resolvers),
            lease=lease.lease,
            generation=lease.generation,
            handshake_milliseconds=slot.handshake_milliseconds,
            total_milliseconds=round((time.monotonic() - started) * 1000, 1),
        )


def _owned(slot: Slot) -> NotAllowed:
    pid = slot.owner.peer.pid if slot.owner else 0
    return NotAllowed(f"{slot.worker.name} has a tunnel already, held by process {pid}", hint=f"stop it: kill {pid}")
