"""Makes and ends a slot's tunnel: lease -> sealed gate -> key and peer -> handshake -> open gate, and back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial

from fleet import log
from fleet.errors import FleetError, HandshakeTimeout, NoWay, ServerNotFound, in_a_line
from fleet.machine import processes
from fleet.model import Fleet, Worker
from fleet.sockets.deadline import readable, to_the_end
from netctl.plan.key import Endpoint
from netctl.pool.contract import Lease, Wish
from netctl.pool.threaded import ThreadedPool
from netctl.slots.bookkeeping import Bookkeeping
from netctl.slots.devices import Devices
from netctl.slots.endings import Endings
from netctl.slots.health import Step
from netctl.slots.names import resolved
from netctl.slots.reconcile import Reconciler
from netctl.slots.servers import Servers
from netctl.slots.slot import Event, Slot, SlotState
from netctl.slots.suspects import MOST, NO_KEYS_FAULT, Suspects, in_words, named, none_free, none_there

POOL_SECONDS = 0.25
"""How often a request that waits for a key checks the pool: another program may have added one."""
REPAIR_SECONDS = 10.0
LAST_TRY_SECONDS = 0.5
"""With less time than this before the deadline no other key is tried."""
NEW_DEVICE_SECONDS = 3.0
"""With less time than this no other device is tried: the supervisor needs 1 s to start it, then comes a handshake."""


class Tunnels:
    """All slots, and the only code that changes their leases."""

    def __init__(
        self, *, fleet: Fleet, pool: ThreadedPool, reconciler: Reconciler, devices: Devices, endings: Endings
    ) -> None:
        self._fleet, self._pool, self._reconciler = fleet, pool, reconciler
        self._devices, self._endings = devices, endings
        self._log = log.get("netctl")
        self.servers = Servers(fleet.wireguard.mtu)
        self.book = Bookkeeping(pool, self.servers)
        self.slots = {worker.uid: Slot(worker=worker) for worker in fleet.members}

    def interface(self, slot: Slot) -> str:
        """The name of SLOT's link now."""
        return self._devices.interface(slot)

    async def renew(self, slot: Slot, deadline: float) -> Lease:
        """Give SLOT another key and open its gate (monotonic DEADLINE). Call with the slot's lock held.

        On any error, also when it is cancelled, the slot is sealed and has no owner. Raises NoKeyFree,
        HandshakeTimeout, TunnelError.
        """
        try:
            # Before a key is taken: without a namespace no device could use the key or confirm its end, so one worker
            # that asks again and again would empty the pool.
            self._devices.find_space(slot.worker)
            old = slot.lease
            lease = await self._connect(slot, deadline)
        except BaseException as error:
            # A hang-up cancels this call; the slot must still be sealed before the lock is released.
            await self.seal(slot, f"no tunnel: {type(error).__name__}")
            raise
        if old is not None:
            self._endings.sweep_later(slot.worker, old.generation)
        # Only leases before this one: by then the next request may be running, with its key in the device.
        self.book.later(partial(self._pool.ended, slot.worker.uid, before=lease.generation))
        slot.unconfirmed = False
        return lease

    async def _connect(self, slot: Slot, deadline: float) -> Lease:
        """Try keys until one has a working tunnel; after any error the next is tried (netctl.slots.suspects)."""
        silent, nowhere = list[str](), list[str]()
        suspects = Suspects()
        while True:
            lease = await self._take_key(slot, frozenset([*silent, *nowhere, *suspects.servers]), deadline)
            try:
                lease = await self._bring_up(slot, self.servers.fitted(lease), deadline)
                break
            except HandshakeTimeout as error:
                silent.append(lease.key.server)
                await self._prepare_next_try(slot, lease, silent, error, deadline)
            except ServerNotFound as error:
                self.servers.not_found(lease)
                self.book.failed("server.not_found", lease, error.message, slot)
                nowhere.append(lease.key.server)
                if nowhere.count(lease.key.server) > 1 or len(nowhere) > MOST or _late(deadline):
                    raise
            except NoWay:
                nowhere.append(lease.key.server)
                if len(nowhere) > 1:  # the host may reach a server of the other family
                    raise
            except NO_KEYS_FAULT:
                raise
            except Exception as error:  # noqa: BLE001 - a key may raise anything; the next one is tried
                self._log.warning(
                    "key.failed", worker=slot.worker.name, file=lease.origin, key=lease.key_id, reason=in_words(error)
                )
                if lone := suspects.add(lease, error):
                    self.book.put_aside(suspects)
                if lone or _late(deadline):
                    raise named(error) from None
        self.servers.answered(slot, lease)
        self.book.put_aside(suspects)
        return lease

    async def _bring_up(self, slot: Slot, lease: Lease, deadline: float) -> Lease:
        """Set up LEASE's device, sealed; end the old lease's sockets; wait for the handshake; then open the gate."""
        if slot.state is SlotState.CONNECTED:
            slot.step(Event.ROTATE)  # the key before this one failed after its handshake
        slot.hold(lease)
        ways = self._devices.sources.passable(await resolved(lease.key.ways))
        ways = self.servers.in_turn(lease, ways)
        lease = await self._aim(slot, lease, ways.pop(0))
        # After this the device has dropped the old key; the store is updated after the reply, see renew().
        await self._devices.bring(slot, deadline)
        lease = await self._reach(slot, lease, ways, deadline)
        slot.step(Event.READY)
        await self._reconciler.settle(slot.worker, slot.held)
        return lease

    async def _aim(self, slot: Slot, lease: Lease, way: Endpoint) -> Lease:
        """Set WAY as the endpoint of SLOT's LEASE."""
        if way != lease.endpoint:
            lease = replace(lease, endpoint=way)
            await self._pool.renew(lease)
            slot.hold(lease)
        return lease

    async def _reach(self, slot: Slot, lease: Lease, others: list[Endpoint], deadline: float) -> Lease:
        """Wait for a handshake at the endpoint of SLOT's device, then at OTHERS in turn. Raises HandshakeTimeout."""
        # The old sockets are ended during the wait for the new server's answer.
        ending = asyncio.ensure_future(self._endings.end_sockets(slot.worker))
        silent: list[str] = []
        try:
            while True:
                seconds = (deadline - time.monotonic()) / (1 + len(others))
                seconds = min(self._fleet.wireguard.handshake_timeout_seconds, seconds)
                try:
                    took = await self._devices.shake_hands(slot, seconds, again=bool(silent))
                    slot.handshake_ms = round(took * 1000, 1)
                    return lease
                except HandshakeTimeout as error:
                    silent.append(error.message)
                    if not others or _late(deadline):
                        raise HandshakeTimeout("; ".join(silent), hint=error.hint) from None
                lease = await self._aim(slot, lease, others.pop(0))
        finally:
            await ending

    async def _prepare_next_try(
        self, slot: Slot, lease: Lease, failed: list[str], error: HandshakeTimeout, deadline: float
    ) -> None:
        """Prepare for another key; raises ERROR if there is no time for it."""
        step = self.servers.silent(slot, lease, failed)
        self.book.failed("handshake.failed", lease, f"{error.message}; next: {step.value}", slot)
        left = deadline - time.monotonic()
        if left < LAST_TRY_SECONDS or (step is Step.NEW_DEVICE and left < NEW_DEVICE_SECONDS):
            raise error
        if step is Step.NEW_DEVICE:
            await self._devices.replace(slot, error.message)
            failed.clear()

    async def _take_key(self, slot: Slot, avoid: frozenset[str], deadline: float) -> Lease:
        """Lease a key, waiting until one is free. Raises NoKeyFree, or ConfigurationError if there can be none."""
        most, server = self._fleet.netctl.workers_per_server, slot.server
        while True:
            uid, owner, aside = slot.worker.uid, slot.holder, self.servers.aside()
            wish = Wish(uid=uid, owner=owner, avoid=avoid, aside=aside, most_on_server=most, server=server)
            lease = await self._pool.take(wish)
            if lease is not None:
                return lease
            numbers = await self._pool.numbers()
            if numbers.service is None and not await self._pool.is_there(server):
                raise none_there(server)
            if slot.lease is not None:
                await self._give_back(slot)  # the slot's old key may be the only one in the pool
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                raise none_free(numbers, most, server)
            await asyncio.sleep(min(POOL_SECONDS, left))

    async def _give_back(self, slot: Slot) -> None:
        """End the slot's lease: close the gate, remove key and peer from the device, then free the key.

        The store is updated at the same time: if it fails or hangs, the gate is closed anyway, and the key stays taken.
        """
        slot.lease = None
        outcomes = await asyncio.gather(
            self._empty(slot.worker), self._pool.ending(slot.worker.uid), return_exceptions=True
        )
        for trouble in filter(None, outcomes):
            raise trouble
        await self._pool.ended(slot.worker.uid)

    async def _empty(self, worker: Worker) -> None:
        await self._reconciler.settle(worker, None)
        await self._endings.sweep(worker)

    async def seal(self, slot: Slot, reason: str) -> None:
        """Close the gate, remove the owner, return the key. Call with the slot's lock held.

        It runs to its end even if its caller is cancelled. The next user of the slot waits for the lock.
        """
        slot.step(Event.END)
        slot.own(None)
        await to_the_end(self._seal(slot, reason))

    async def _seal(self, slot: Slot, reason: str) -> None:
        lease = slot.lease
        try:
            await self._give_back(slot)
        except Exception as error:  # noqa: BLE001 - after any error the slot counts as sealed
            # The gate is closed first. A key that may still be in a device is not leased to another worker.
            slot.unconfirmed = True
            self._log.error("slot.seal_unconfirmed", worker=slot.worker.name, error=in_words(error))
        self._log.info("slot.sealed", worker=slot.worker.name, reason=reason, lease=lease.id if lease else None)

    async def confirm(self, slot: Slot) -> None:
        """Finish a seal that the device or the store did not confirm. Call with the slot's lock held."""
        if slot.repairing:
            await self._devices.replace(slot, "it did not answer when netctl started")
        else:
            await self._devices.bring(slot, time.monotonic())
        if slot.state is SlotState.SEALED:
            await self._give_back(slot)
        slot.unconfirmed = False

    # --- start and repair

    async def repair(self, uid: int) -> None:
        """Restore a worker's part after its link has appeared, disappeared or changed, once its device answers."""
        slot = self.slots[uid]
        self._reconciler.forget(slot.worker)
        try:
            await self._devices.ready(slot.worker, time.monotonic() + REPAIR_SECONDS)
            async with slot.lock:
                slot.repairing = False
                self._reconciler.forget(slot.worker)  # what held the lock may have read the state before the change
                await self._reconciler.settle(slot.worker, slot.held)
                await self._pool.ended(uid)
        except FleetError as error:
            self._log.error("slot.repair_failed", worker=slot.worker.name, error=in_a_line(error))

    async def adopt(self) -> list[Slot]:
        """Take over the tunnels of an earlier netctl; returns the slots whose workers are expected back.

        A lease whose owner still runs stays open, unless it was just replacing another lease, whose sockets would
        continue through it; other leases end. What is as it should be is not touched, so there is no address event.
        """
        gone, cut_off = list[int](), await self._pool.unfinished()
        for lease in await self._pool.held():
            slot = self.slots.get(lease.uid)
            if slot is not None and processes.alive(lease.owner) and lease.uid not in cut_off:
                slot.hold(lease)
                slot.step(Event.ADOPT)
            else:
                gone.append(lease.uid)
                await self._pool.ending(lease.uid)
        held = {uid: slot.held for uid, slot in self.slots.items() if slot.held}
        for worker in await self._reconciler.settle_all(held):
            self.slots[worker.uid].repairing = self.slots[worker.uid].unconfirmed = True
        for uid in gone:
            if uid in self.slots:
                await self._endings.sweep(self.slots[uid].worker)
        for uid in await self._pool.unfinished():
            if uid not in self.slots or not self.slots[uid].unconfirmed:
                await self._pool.ended(uid)
        return [slot for slot in self.slots.values() if slot.state is SlotState.ORPHANED]

    async def expire(self, slot: Slot) -> None:
        """Seal an adopted slot when its owner ends or does not come back within the grace time."""
        lease = slot.lease
        assert lease is not None
        grace = self._fleet.netctl.owner_grace_seconds
        ended = await ended_in_time(lease.owner, grace)
        async with slot.lock:
            if slot.state is SlotState.ORPHANED and slot.lease and slot.lease.id == lease.id:
                await self.seal(slot, "its worker ended" if ended else f"its worker did not come back in {grace:g} s")


def _late(deadline: float) -> bool:
    """Whether there is too little time before DEADLINE to try another key or endpoint."""
    return deadline - time.monotonic() < LAST_TRY_SECONDS


async def ended_in_time(owner: str, seconds: float) -> bool:
    """Whether the process OWNER (see fleet.machine.processes) has ended already or ends within SECONDS."""
    process = processes.handle_of(owner)
    if process is None:
        return True
    with process:
        return await readable(process.fileno(), seconds)
