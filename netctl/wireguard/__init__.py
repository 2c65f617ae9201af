"""One contract, two backends: the kernel's WireGuard, and wireguard-go's socket. `probe` picks.

A backend sets a device's key and its one peer, and reads them back with the counters. Every call has
a deadline. Links are not its business: see netctl.host.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from fleet.errors import HandshakeTimeout, MissingProgram
from fleet.isolation import HOST
from netctl.kernel.spaces import Spaces
from netctl.plan.state import Device

CALL_SECONDS = 2.0
"""How long one call of a backend may take; wireguard-go answers in 1 ms."""
POLL_SECONDS = 0.001
"""A handshake takes 2-5 ms: it is looked for this often, and less often the longer it takes."""
KICK_SECONDS = 1.0
"""A lost first packet is sent again by WireGuard after 5 s (REKEY_TIMEOUT); we start over sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A device as it is now."""

    device: Device
    last_handshake: datetime | None
    received_bytes: int
    sent_bytes: int


class Backend(Protocol):
    """What both backends do."""

    @property
    def name(self) -> Literal["kernel", "userspace"]: ...

    @property
    def link_kind(self) -> Literal["wireguard", "tun"]:
        """Kind of the links; a `tun` is made by wireguard-go and waited for, a `wireguard` by netctl."""
        ...

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        """The device of that name in SPACE, None when there is none; raises TunnelError when none answers in time.

        wireguard-go answers in the host, wherever its device is: it is what SPACE says.
        """
        ...

    async def write(self, device: Device) -> None:
        """Set key and peer, and remove every other peer. With a peer the handshake starts by itself."""
        ...

    async def end(self, interface: str) -> None:
        """Kill the process behind a `tun`, however it hangs; the supervisor starts another. Gone already is fine."""
        ...


async def wait_for_handshake(backend: Backend, device: Device, timeout_seconds: float) -> tuple[float, Reading]:
    """Seconds until DEVICE, just written, has shaken hands, and what was read then; raises HandshakeTimeout."""
    started = time.monotonic()
    kick = started + KICK_SECONDS
    while True:
        reading = await backend.read(device.interface, device.space)
        now = time.monotonic()
        if reading is not None and reading.last_handshake is not None:
            return now - started, reading
        if now - started > timeout_seconds:
            host, port = device.peer.endpoint if device.peer else ("?", 0)
            sent = reading.sent_bytes if reading else 0
            raise HandshakeTimeout(
                f"{host}:{port} did not answer within {timeout_seconds:g} s ({sent} bytes sent, 0 received)",
                hint="is the server up, the key still valid, the clock right?",
            )
        if now > kick:
            kick = now + KICK_SECONDS
            await backend.write(Device(interface=device.interface, space=device.space))
            await backend.write(device)
        # With many workers at once the looks themselves are what makes them wait.
        await asyncio.sleep(max(POLL_SECONDS, min((now - started) / 4, 0.02)))


async def probe(setting: Literal["auto", "kernel", "userspace"], spaces: Spaces | None = None) -> Backend:
    """The backend SETTING asks for, with devices in SPACES too; `auto` prefers the kernel's. Raises MissingProgram."""
    from netctl.wireguard import kernel, userspace

    if setting == "userspace":
        return userspace.UserspaceBackend()
    if await kernel.available():
        return kernel.KernelBackend(spaces)
    if setting == "kernel":
        raise MissingProgram(
            "this kernel has no WireGuard", hint='modprobe wireguard, or set wireguard.backend = "userspace"'
        )
    return userspace.UserspaceBackend()
