"""What netctl asks of a backend: set a device's key and its one peer, and read them back with the counters.

Every call has a deadline. Links are not its business: see netctl.host.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fleet.backends import Backend
from fleet.isolation import HOST
from netctl.plan.things import Device

CALL_SECONDS = 2.0
"""How long one call may take; wireguard-go answers in 1 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A device as it is now."""

    device: Device
    last_handshake: datetime | None
    received_bytes: int
    sent_bytes: int


class WireGuard(Protocol):
    """The devices of one backend."""

    @property
    def backend(self) -> Backend:
        """What it is."""
        ...

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        """The device of that name in SPACE, None when there is none; raises TunnelError when none answers in time.

        A program answers in the host, wherever its device is: it is what SPACE says.
        """
        ...

    async def write(self, device: Device) -> None:
        """Set key and peer, and remove every other peer. With a peer the handshake starts by itself."""
        ...

    async def restart(self, interface: str) -> bool:
        """Kill the program that is the device, however it hangs; the supervisor starts another. Gone already is fine.

        False where no program is: then its link has to be replaced.
        """
        ...
