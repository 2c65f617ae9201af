"""The handshake of a device: started over, and waited for."""

from __future__ import annotations

import asyncio
import time

from fleet.errors import HandshakeTimeout
from netctl.plan.things import Device
from netctl.wireguard.contract import Reading, WireGuard

POLL_SECONDS = 0.001
"""A handshake takes 2-5 ms: it is looked for this often, and less often the longer it takes."""
AGAIN_SECONDS = 1.0
"""A lost first packet is sent again by WireGuard after 5 s (REKEY_TIMEOUT); we start over sooner."""


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
                f"{server} did not answer within {timeout_seconds:g} s ({sent} bytes sent, 0 received)",
                hint="is the server up, the key still valid, the clock right?",
            )
        if now > again:
            again = now + AGAIN_SECONDS
            await start_over(wireguard, device)
        # With many workers at once the looks themselves are what makes them wait.
        await asyncio.sleep(max(POLL_SECONDS, min((now - started) / 4, 0.02)))
