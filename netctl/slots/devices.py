"""Every slot's WireGuard device: waits for its answers and handshakes, and replaces it when it fails.

A device that is a program is killed, and the supervisor starts it again under the same name. A kernel link cannot be
killed: the slot continues with the link's other name (netctl.slots.links).
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
"""How long a new device may take: the supervisor restarts a program at once, but pauses when it fails."""
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
        """Set SLOT up for its lease; a device that hangs or is gone is replaced once. Raises TunnelError."""
        if slot.lease and slot.lease.key.address in numbers.placeholders():  # it would be taken for a placeholder
            address, network = slot.lease.key.address, numbers.placeholders()
            raise TunnelError(f"the key's address {address} is among workers.placeholders ({network})")
        try:
            await self.ready(slot.worker, deadline)
            slot.repairing = False
            await self._reconciler.settle(slot.worker, slot.held)
            if not self._reconciler.knows(slot.worker):
                # Its program runs, so its link is in a namespace that has no name any more.
                raise TunnelError(f"{slot.worker.interface} is in no network namespace that netctl knows")
        except HandshakeTimeout:
            raise
        except TunnelError as error:
            await self.replace(slot, str(error))

    async def replace(self, slot: Slot, reason: str) -> None:
        """Replace SLOT's device: close the gate, remove the old device, set the new one up for the slot's lease.

        Raises TunnelError when no new device appears, SpaceGone when its namespace is gone; the gate is then closed.
        """
        worker, old = slot.worker, self._links.name(slot.worker)
        self.find_space(worker)  # a new device needs it
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
        """Wait for the new device. Errors are retried: the answers may still come from the old one, which is ending."""
        deadline = time.monotonic() + REPLACE_SECONDS
        while True:
            try:
                return await self.ready(slot.worker, deadline)
            except TunnelError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def ready(self, worker: Worker, deadline: float) -> None:
        """Wait until the program that provides WORKER's device answers (monotonic DEADLINE); raises TunnelError."""
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
        """Look up WORKER's namespace; raises SpaceGone when there is none."""
        self._reconciler.find_space(worker)
        if (space := self._fleet.walls.space(worker)) != HOST:
            self._host.spaces.descriptor(space)

    def interface(self, slot: Slot) -> str:
        """The name of SLOT's link now."""
        return self._links.name(slot.worker)

    async def read(self, slot: Slot) -> Reading | None:
        """Read SLOT's device; None when there is none. Raises TunnelError when it does not answer in time."""
        return await self._wireguard.read(self.interface(slot), self._fleet.walls.space(slot.worker))

    async def shake_hands(self, slot: Slot, seconds: float, *, again: bool = False) -> float:
        """Wait for the handshake with the key that SLOT's device was just given; returns how many seconds it took.

        AGAIN: start a new session with the same key and server, at the endpoint that SLOT has now. The gate may stay
        open, as the exit is the same. Raises HandshakeTimeout, TunnelError.
        """
        device = self._device(slot)
        if again:
            await start_over(self._wireguard, device)
        took_seconds, reading = await wait_for_handshake(self._wireguard, device, seconds)
        slot.count(reading)
        return took_seconds

    def _device(self, slot: Slot) -> Device:
        return desired.device(self._fleet, slot.worker, self.interface(slot), slot.held)
