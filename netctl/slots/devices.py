"""Every slot's WireGuard device: that it answers, and another in its place when it does not.

wireguard-go is killed and comes back under its name, the supervisor's business. A kernel link cannot be killed: the
slot goes on under its other name while the old link is deleted beside (netctl.slots.reconcile).
"""

from __future__ import annotations

import asyncio
import time

from fleet import log
from fleet.errors import HandshakeTimeout, TunnelError
from netctl.slots.reconcile import Reconciler
from netctl.slots.slot import Slot
from netctl.wireguard import Backend

REPLACE_SECONDS = 10.0
"""How long another device may take: the supervisor starts wireguard-go again at once, and rests when it fails."""
AGAIN_SECONDS = 0.05


class Devices:
    """The devices of all slots. Call with the slot's lock held."""

    def __init__(self, reconciler: Reconciler, backend: Backend) -> None:
        self._reconciler = reconciler
        self._backend = backend
        self._log = log.get("netctl")

    async def settle(self, slot: Slot, deadline: float) -> None:
        """Bring SLOT to what it holds; a device that hangs or is gone is replaced once. Raises TunnelError."""
        try:
            await self._reconciler.device_ready(slot.worker, deadline)
            slot.repairing = False
            await self._reconciler.settle(slot.worker, slot.held)
            if not self._reconciler.linked(slot.worker):
                # Its program runs, so its link is in a namespace that has lost its name.
                raise TunnelError(f"{slot.worker.interface} is in no namespace of ours")
        except HandshakeTimeout:
            raise
        except TunnelError as error:
            await self.replace(slot, str(error))

    async def replace(self, slot: Slot, reason: str) -> None:
        """Another device for SLOT, with what it holds: gate closed, the old one got rid of, the new one set up.

        Raises TunnelError when no other one comes, SpaceGone when it has nowhere to go; the gate is closed then.
        """
        worker, old = slot.worker, self._reconciler.interface(slot.worker)
        self._reconciler.find_space(worker)  # without one a device more helps nobody
        self._log.warning("device.replaced", worker=worker.name, interface=old, reason=reason)
        slot.repairing = True
        await self._reconciler.shut_gate(worker)
        if self._backend.link_kind == "tun":
            await self._backend.end(old)
        else:
            self._reconciler.change_link(worker)
        await self._other_one(slot)
        slot.repairing = False
        await self._reconciler.settle(worker, slot.held)

    async def _other_one(self, slot: Slot) -> None:
        """Wait for the new device; what hangs up on us may be the old one at its end."""
        deadline = time.monotonic() + REPLACE_SECONDS
        while True:
            try:
                return await self._reconciler.device_ready(slot.worker, deadline)
            except TunnelError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)
