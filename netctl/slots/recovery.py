"""Watches the tunnels in use: first by their counters, then by a probe, then replaces the device, then ends the lease.

The exit never changes under a worker: if a tunnel cannot be repaired with the same key, its connection ends, and the
worker asks for another tunnel. See netctl.slots.health for the times and the steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from fleet import log
from fleet.errors import HandshakeTimeout, TunnelError
from fleet.model import Fleet
from fleet.sockets.deadline import within
from netctl.kernel.setns import Spaces
from netctl.pool.contract import Lease
from netctl.slots import health
from netctl.slots.devices import Devices
from netctl.slots.health import Aside, LinkCounters, Pulse, Verdict
from netctl.slots.slot import OPEN, Slot
from netctl.slots.suspects import in_words
from netctl.slots.tunnels import Tunnels
from netctl.wireguard.contract import Reading

BATCH_SECONDS = 0.25
"""A change of address comes as many notifications: the old one goes, the new one comes, then its routes."""
AT_ONCE, PART_SECONDS = 16, 0.1
"""Slots are looked at in groups of this size, this far apart: beside 200 looks at once rotations would wait 80 ms."""


class Recovery:
    """Watches all slots of TUNNELS."""

    def __init__(self, fleet: Fleet, tunnels: Tunnels, devices: Devices, spaces: Spaces) -> None:
        self._fleet = fleet
        self._tunnels = tunnels
        self._devices = devices
        self._pulses: dict[int, tuple[Lease, Pulse]] = {}
        self._at_work: dict[int, asyncio.Task[None]] = {}
        # Less than LOOK_SECONDS: a first failure skips no look, as the slot may be repaired by then.
        self._rest = Aside(first_seconds=health.LOOK_SECONDS / 2)
        self._counters = LinkCounters(spaces.counters)
        self._sources = devices.sources
        self._ways_changed = asyncio.Event()
        self._log = log.get("netctl")

    async def tend(self) -> None:
        """Every LOOK_SECONDS look at all tunnels in use and retry seals that were not confirmed; for ever."""
        slots = [*self._tunnels.slots.values()]
        try:
            while True:
                begun = time.monotonic()
                moving = self._counters.look() if any(slot.state in OPEN for slot in slots) else frozenset()
                for part, first in enumerate(range(0, len(slots), AT_ONCE), 1):
                    self._tend(slots[first : first + AT_ONCE], moving)
                    await self._pause(begun + part * PART_SECONDS)
                await self._pause(begun + health.LOOK_SECONDS)
        finally:
            for task in self._at_work.values():
                task.cancel()
            # A seal among them still runs to its end, for which it needs the key store.
            await asyncio.gather(*self._at_work.values(), return_exceptions=True)

    def _tend(self, some: Sequence[Slot], moving: frozenset[str]) -> None:
        for slot in some:
            if slot.unconfirmed:
                self._begin(slot, self._confirm)
            elif slot.state in OPEN and self._concerns(slot, moving):
                self._begin(slot, self._look)
        self._follow_host(some)

    def ways_changed(self) -> None:
        """Note that an address or a route of the host has changed."""
        self._ways_changed.set()

    async def _pause(self, end: float) -> None:
        """Follow the host's addresses until END (monotonic), at most once each BATCH_SECONDS."""
        while True:
            try:
                await within(max(0.0, end - time.monotonic()), self._ways_changed.wait())
            except asyncio.TimeoutError:
                return
            await asyncio.sleep(BATCH_SECONDS)
            self._ways_changed.clear()
            self._follow_host(self._tunnels.slots.values())

    def _follow_host(self, some: Iterable[Slot]) -> None:
        """Start new sessions for those of SOME whose servers are reached from another address now."""
        for slot in some:
            if slot.state in OPEN and slot.lease is not None and self._sources.moved(slot.lease):
                self._begin(slot, self._follow)

    async def _follow(self, slot: Slot) -> None:
        """Start a new session if the host now reaches SLOT's server from another address."""
        async with slot.lock:
            lease = slot.lease
            if lease is None or not slot.holds(lease) or (now := self._sources.moved(lease)) is None:
                return
            answered = await self._shake_hands_again(slot, lease, health.PROBE_SECONDS)
        if answered:
            self._sources.follow(lease, now)
        name = slot.worker.name
        self._log.warning("tunnel.moved", worker=name, server=lease.key.server, source=str(now), answered=answered)

    def _concerns(self, slot: Slot, moving: frozenset[str]) -> bool:
        """Whether SLOT's link has traffic, is missing, or has a lease that was not looked at yet."""
        name, known = self._devices.interface(slot), self._pulses.get(slot.worker.uid)
        fresh = known is None or slot.lease is None or known[0].id != slot.lease.id
        return fresh or name in moving or not self._counters.there(name)

    def _begin(self, slot: Slot, work: Callable[[Slot], Coroutine[Any, Any, None]]) -> None:
        """Start WORK unless SLOT has work running or has just failed; slots do not wait for each other."""
        uid = slot.worker.uid
        before = self._at_work.get(uid)
        if (before is None or before.done()) and uid not in self._rest.until(time.monotonic()):
            self._at_work[uid] = asyncio.ensure_future(self._guarded(slot, work))

    async def _guarded(self, slot: Slot, work: Callable[[Slot], Coroutine[Any, Any, None]]) -> None:
        try:
            await work(slot)
            self._rest.worked(slot.worker.uid)
        except Exception as error:  # noqa: BLE001 - an error of one slot must not stop the others; it is tried again
            again = self._rest.failed(slot.worker.uid, time.monotonic())
            name = slot.worker.name
            self._log.error("slot.not_mended", worker=name, error=in_words(error), again_seconds=round(again))

    async def _confirm(self, slot: Slot) -> None:
        async with slot.lock:
            if slot.unconfirmed:
                await self._tunnels.confirm(slot)
        if slot.state in OPEN:
            await self._look(slot)

    async def _look(self, slot: Slot) -> None:
        """Look once at a tunnel in use; probe a quiet one until it answers or is dead."""
        lease = slot.lease
        if lease is None:
            return
        reading = await self._read(slot)
        if reading is None:
            await self._mend(slot, lease, "its device does not answer")
            return
        if slot.lease is lease:
            slot.count(reading)
        pulse = self._pulse(slot, lease)
        before = pulse.received_bytes
        verdict = pulse.look(time.monotonic(), reading.sent_bytes, reading.received_bytes)
        if before is not None and reading.received_bytes > before:
            self._tunnels.servers.answered(slot, lease)
        if verdict is not Verdict.FINE and self._sources.lost(lease):
            return  # the host has no route: neither another device nor another server helps
        while verdict is Verdict.QUIET and not await self._probe(slot, lease, pulse):
            verdict = pulse.verdict(time.monotonic())
        if verdict is Verdict.DEAD:
            await self._escalate(slot, lease)

    async def _read(self, slot: Slot) -> Reading | None:
        """The device's counters; None when it is gone or did not answer twice."""
        for _ in range(2):
            try:
                return await self._devices.read(slot)
            except TunnelError as error:
                self._log.warning("device.silent", worker=slot.worker.name, error=str(error))
        return None

    def _pulse(self, slot: Slot, lease: Lease) -> Pulse:
        known = self._pulses.get(slot.worker.uid)
        if known is None or known[0].id != lease.id:
            pulse = Pulse(keepalive_seconds=self._fleet.wireguard.keepalive_seconds)
            self._pulses[slot.worker.uid] = known = (lease, pulse)
        return known[1]

    async def _probe(self, slot: Slot, lease: Lease, pulse: Pulse) -> bool:
        """Start a new session with the same key and server; True if it was answered, or if LEASE has ended."""
        async with slot.lock:
            if not slot.holds(lease):
                return True
            left = max(0.0, pulse.left_seconds(time.monotonic()))
            answered = await self._shake_hands_again(slot, lease, min(health.PROBE_SECONDS, left))
        if answered:
            pulse.revived()
        self._log.warning(
            "tunnel.quiet", worker=slot.worker.name, file=lease.origin, server=lease.key.server, answered=answered
        )
        return answered

    async def _shake_hands_again(self, slot: Slot, lease: Lease, seconds: float) -> bool:
        """Start a new session; returns whether LEASE's server answers."""
        try:
            await self._devices.shake_hands(slot, seconds, again=True)
        except HandshakeTimeout:
            return False
        self._tunnels.servers.answered(slot, lease)
        return True

    async def _escalate(self, slot: Slot, lease: Lease) -> None:
        """Replace the device if the server answers other slots: then device or key is at fault. Else end the lease."""
        if lease.key.server in self._tunnels.servers.working(slot):
            await self._mend(slot, lease, f"{lease.key.server} answers others")
        else:
            await self._give_up(slot, lease)

    async def _mend(self, slot: Slot, lease: Lease, reason: str) -> None:
        """Replace the device, with the same key; if that does not help either, end the lease."""
        try:
            async with slot.lock:
                if not slot.holds(lease):
                    return
                await self._devices.replace(slot, reason)
                if await self._shake_hands_again(slot, lease, health.PROBE_SECONDS):
                    return
        except TunnelError as error:
            self._log.error("device.not_replaced", worker=slot.worker.name, error=str(error))
        await self._give_up(slot, lease)

    async def _give_up(self, slot: Slot, lease: Lease) -> None:
        """Seal the slot, put key and server aside, and hang up, so that the worker asks for another tunnel."""
        async with slot.lock:
            if not slot.holds(lease):
                return
            owner = slot.owner
            self._tunnels.book.given_up(slot, lease)
            await self._tunnels.seal(slot, f"{lease.key.server} no longer answers")
        if owner is not None:
            owner.hang_up()
