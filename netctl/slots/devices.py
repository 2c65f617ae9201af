"""Every slot's WireGuard device: that it answers, shakes hands, and is replaced when it does not.

Where a program is the device it is killed and comes back under its name, the supervisor's business. A link of the
kernel's cannot be killed: the slot goes on under its other name (netctl.slots.links).
"""

from __future__ import annotations

import asyncio
import time

from fleet import log, numbers
from fleet.errors import HandshakeTimeout, TunnelError
from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.host import Host
from netctl.plan import desired
from netctl.plan.things import Device
from netctl.slots.links import Links
from netctl.slots.reconcile import LOOK_SECONDS, Reconciler
from netctl.slots.slot import Slot
from netctl.slots.sources import Sources
from netctl.wireguard.contract import Reading, WireGuard, start_over, wait_for_handshake

REPLACE_SECONDS = 10.0
"""How long another device may take: the supervisor starts a program again at once, and rests when it fails."""
AGAIN_SECONDS = 0.05


class Devices:
    """The devices of all slots. Call with the slot's lock held."""

    def __init__(self, fleet: Fleet, wireguard: WireGuard, host: Host, links: Links, reconciler: Reconciler) -> None:
        self._fleet = fleet
        self._wireguard = wireguard
        self._host = host
        self._links = links
        self._reconciler = reconciler
        self.sources = Sources(host.source)
        self._log = log.get("netctl")

    async def bring(self, slot: Slot, deadline: float) -> None:
        """Bring SLOT to what it holds; a device that hangs or is gone is replaced once. Raises TunnelError."""
        if slot.lease and slot.lease.key.address in numbers.placeholders():  # it would be taken for a worker's
            address, network = slot.lease.key.address, numbers.placeholders()
            raise TunnelError(f"the key's address {address} is among workers.placeholders ({network})")
        try:
            await self.ready(slot.worker, deadline)
            slot.repairing = False
            await self._reconciler.settle(slot.worker, slot.held)
            if not self._reconciler.knows(slot.worker):
                # Its program runs, so its link is in a namespace that has lost its name.
                raise TunnelError(f"{slot.worker.interface} is in no network namespace that netctl knows")
        except HandshakeTimeout:
            raise
        except TunnelError as error:
            await self.replace(slot, str(error))

    async def replace(self, slot: Slot, reason: str) -> None:
        """Another device for SLOT, with what it holds: gate closed, the old one got rid of, the new one set up.

        Raises TunnelError when no other one comes, SpaceGone when it has nowhere to go; the gate is closed then.
        """
        worker, old = slot.worker, self._links.name(slot.worker)
        self.find_space(worker)  # without it another device has nowhere to go
        self._log.warning("device.replaced", worker=worker.name, interface=old, reason=reason)
        slot.repairing = True
        self._reconciler.forget(worker)
        await self._host.shut(worker)
        if not await self._wireguard.restart(old):
            self._links.give_up(worker)
        await self._other_one(slot)
        slot.repairing = False
        await self._reconciler.settle(worker, slot.held)

    async def _other_one(self, slot: Slot) -> None:
        """Wait for the new device; what hangs up on us may be the old one at its end."""
        deadline = time.monotonic() + REPLACE_SECONDS
        while True:
            try:
                return await self.ready(slot.worker, deadline)
            except TunnelError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def ready(self, worker: Worker, deadline: float) -> None:
        """Wait until the program that is WORKER's device answers (monotonic DEADLINE); raises TunnelError."""
        backend = self._wireguard.backend
        if backend.makes_links or self._reconciler.knows(worker):
            return
        while await self._wireguard.read(self._links.name(worker)) is None:
            if time.monotonic() > deadline:
                raise TunnelError(
                    f"{worker.interface} did not appear: {backend.program[0]} is not running or does not answer",
                    hint=f"supervisorctl status wg:{worker.interface}",
                )
            await asyncio.sleep(LOOK_SECONDS)

    def find_space(self, worker: Worker) -> None:
        """Look for WORKER's namespace; raises SpaceGone when there is none, nor ever was."""
        self._reconciler.find_space(worker)
        if (space := self._fleet.walls.space(worker)) != HOST:
            self._host.spaces.descriptor(space)

    def interface(self, slot: Slot) -> str:
        """The name of SLOT's link now."""
        return self._links.name(slot.worker)

    async def read(self, slot: Slot) -> Reading | None:
        """SLOT's device; None when there is none. Raises TunnelError when it does not answer in time."""
        return await self._wireguard.read(self.interface(slot), self._fleet.walls.space(slot.worker))

    async def shake_hands(self, slot: Slot, seconds: float, *, again: bool = False) -> float:
        """Wait for the handshake of what SLOT's device was just given; how long it took.

        AGAIN: a new session with the same key and server, by the way to it that SLOT holds now. The gate may stay open,
        the exit is the same. Raises HandshakeTimeout, TunnelError.
        """
        device = self._device(slot)
        if again:
            await start_over(self._wireguard, device)
        took_seconds, reading = await wait_for_handshake(self._wireguard, device, seconds)
        slot.count(reading)
        return took_seconds

    def _device(self, slot: Slot) -> Device:
        return desired.device(self._fleet, slot.worker, self.interface(slot), slot.held)
