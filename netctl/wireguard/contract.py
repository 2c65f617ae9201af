"""What netctl asks of a backend: set a device's key and its one peer, open that, read both back with the counters.

And the handshake that follows: started over, and waited for.

Every call has a deadline. Links are not its business: see netctl.host.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from fleet.backends import Backend
from fleet.errors import HandshakeTimeout
from fleet.isolation import HOST
from netctl.plan.things import Device

CALL_SECONDS = 2.0
"""How long one call may take; wireguard-go answers in 1 ms."""
POLL_SECONDS = 0.001
"""A handshake takes 2-5 ms: it is looked for this often, and less often the longer it takes."""
AGAIN_SECONDS = 1.0
"""A lost first packet is sent again by WireGuard after 5 s (REKEY_TIMEOUT); we start over sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A device as it is now."""

    device: Device
    last_handshake: datetime | None
    received_bytes: int
    sent_bytes: int


def moment(seconds: int, nanoseconds: int) -> datetime | None:
    """The time of a handshake as a device tells it; none yet is all 0."""
    return datetime.fromtimestamp(seconds + nanoseconds / 1e9, timezone.utc) if seconds or nanoseconds else None


class WireGuard(Protocol):
    """The devices of one backend."""

    @property
    def backend(self) -> Backend:
        """What it is."""

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        """The device of that name in SPACE, None when there is none; raises TunnelError when none answers in time.

        A program answers in the host, wherever its device is: it is what SPACE says.
        """

    async def write(self, device: Device) -> None:
        """Set key and peer, and remove every other peer. With a peer the handshake starts by itself."""

    async def open(self, device: Device) -> None:
        """Allow DEVICE's peer its networks, and change nothing else: its session goes on."""

    async def restart(self, interface: str) -> bool:
        """Kill the program that is the device, however it hangs; the supervisor starts another. Gone already is fine.

        False where no program is: then its link has to be replaced.
        """


async def start_over(wireguard: WireGuard, device: Device) -> None:
    """A new session of DEVICE with the key and the peer that it has. Written alone they would be no change."""
    await wireguard.write(Device(interface=device.interface, space=device.space))
    await wireguard.write(device)


async def wait_for_handshake(wireguard: WireGuard, device: Device, timeout_seconds: float) -> tuple[float, Reading]:
    """Seconds until DEVICE, just written, has shaken hands, and what was read then; raises HandshakeTimeout."""
    started = time.monotonic()
    again = started + AGAIN_SECONDS
    while True:
        reading = await wireguard.read(device.interface, device.space)
        now = time.monotonic()
        if reading is not None and reading.last_handshake is not None:
            return now - started, reading
        if now - started > timeout_seconds:
            server = device.peer.endpoint if device.peer else "no server"
            sent = reading.sent_bytes if reading else 0
            raise HandshakeTimeout(
                f"{server} did not answer within {round(timeout_seconds, 2):g} s ({sent} bytes sent, 0 received)",
                hint="is the server up, the key still valid, the clock right?",
            )
        if now > again:
            again = now + AGAIN_SECONDS
            await start_over(wireguard, device)
        # With many workers at once the looks themselves are what makes them wait.
        await asyncio.sleep(max(POLL_SECONDS, min((now - started) / 4, 0.02)))
