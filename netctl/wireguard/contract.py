"""What a backend does for netctl: set a device's key and its one peer, open the peer, read both and the counters.

Also starts a handshake again and waits for one.

Every call has a deadline. netctl.host makes and deletes links.
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
"""How often to look for a handshake, which takes 2-5 ms; less often the longer it takes."""
AGAIN_SECONDS = 1.0
"""WireGuard sends a lost first packet again after 5 s (REKEY_TIMEOUT); netctl starts again sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The current state of a device."""

    device: Device
    last_handshake: datetime | None
    received_bytes: int
    sent_bytes: int


def moment(seconds: int, nanoseconds: int) -> datetime | None:
    """The time of a handshake as a device reports it; None for 0, which means none yet."""
    return datetime.fromtimestamp(seconds + nanoseconds / 1e9, timezone.utc) if seconds or nanoseconds else None


class WireGuard(Protocol):
    """The devices of one backend."""

    @property
    def backend(self) -> Backend:
        """The backend's row in fleet.backends."""

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        """The device INTERFACE in SPACE; None when there is none. Raises TunnelError when it does not answer in time.

        A program answers in the host, wherever its device is, so its answer is reported as being in SPACE.
        """

    async def write(self, device: Device) -> None:
        """Set key and peer, and remove every other peer. With a peer, the handshake starts at once."""

    async def open(self, device: Device) -> None:
        """Set the allowed ips of DEVICE's peer, and change nothing else: its session goes on."""

    async def restart(self, interface: str) -> bool:
        """Kill the program that is the device, if it runs, even if it hangs; the supervisor starts another.

        False for a backend without programs: then the link has to be replaced.
        """


async def start_over(wireguard: WireGuard, device: Device) -> None:
    """Start a new session of DEVICE with its key and peer: seal it first, as writing the same again changes nothing."""
    await wireguard.write(Device(interface=device.interface, space=device.space))
    await wireguard.write(device)


async def wait_for_handshake(wireguard: WireGuard, device: Device, timeout_seconds: float) -> tuple[float, Reading]:
    """Wait for a handshake of DEVICE, just written. Returns the seconds it took and the reading.

    Raises HandshakeTimeout.
    """
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
        # Rarer over time: with many workers at once, the reads themselves would delay them.
        await asyncio.sleep(max(POLL_SECONDS, min((now - started) / 4, 0.02)))
