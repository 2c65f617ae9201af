"""The kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h), through pyroute2.

pyroute2's `set` takes one peer a call and never sets REPLACE_PEERS, so the old peers are removed here,
each by its key, before the new key and peer are set.
"""

from __future__ import annotations

import asyncio
import base64
import errno
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar

from pyroute2 import AsyncWireGuard
from pyroute2.netlink.exceptions import NetlinkError

from fleet.deadline import within
from fleet.errors import TunnelError
from netctl.conf import KEY_BYTES, Secret
from netctl.state import Device, Peer
from netctl.wireguard import ALLOWED, CALL_SECONDS, Reading

_NO_KEY = bytes(KEY_BYTES)
T = TypeVar("T")


async def available() -> bool:
    """Whether this kernel has WireGuard; asking for the netlink family loads the module."""
    asking = AsyncWireGuard()
    asking.module_err_level = "debug"  # "not found" is an answer here, not an error
    try:
        async with asking:
            await asking.setup_endpoint()  # entering alone does not look the family up
            return True
    except (NetlinkError, OSError):
        return False


class Kernel:
    """The preferred backend."""

    name: Literal["kernel"] = "kernel"
    link_kind: Literal["wireguard"] = "wireguard"

    async def read(self, interface: str) -> Reading | None:
        """See Backend.read."""
        return await _in_time(interface, _read(interface))

    async def write(self, device: Device) -> None:
        """See Backend.write."""
        await _in_time(device.interface, _write(device))

    async def end(self, interface: str) -> None:
        """See Backend.end: there is no process behind a kernel's device."""


@asynccontextmanager
async def _opened() -> AsyncIterator[AsyncWireGuard]:
    async with AsyncWireGuard() as wg:
        await wg.setup_endpoint()  # looks the netlink family up, which entering alone does not
        yield wg


async def _in_time(interface: str, call: Coroutine[Any, Any, T]) -> T:
    try:
        return await within(CALL_SECONDS, call)
    except asyncio.TimeoutError:
        raise TunnelError(f"the kernel did not answer for {interface} within {CALL_SECONDS:g} s") from None
    except NetlinkError as error:
        raise TunnelError(f"the kernel refused a change of {interface}: errno {error.code}") from None


async def _messages(wg: AsyncWireGuard, interface: str) -> list[Any]:
    """The dump of one device, [] when there is none; a device of many peers comes in several messages."""
    try:
        return [message async for message in await wg.info(interface)]
    except NetlinkError as error:
        if error.code in (errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise


async def _read(interface: str) -> Reading | None:
    async with _opened() as wg:
        messages = await _messages(wg, interface)
    if not messages:
        return None
    peers = _peers(messages)
    private = _bytes(messages[0].get_attr("WGDEVICE_A_PRIVATE_KEY"))
    peer = _peer(peers[0], sole=len(peers) == 1) if peers else None
    first = peers[0] if peers else None
    shaken = first.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME") if first is not None else None
    seconds = shaken["tv_sec"] + shaken["tv_nsec"] / 1e9 if shaken is not None else 0
    return Reading(
        device=Device(interface=interface, private=_secret(private), peer=peer),
        last_handshake=datetime.fromtimestamp(seconds, timezone.utc) if seconds else None,
        received_bytes=int(first.get_attr("WGPEER_A_RX_BYTES") or 0) if first is not None else 0,
        sent_bytes=int(first.get_attr("WGPEER_A_TX_BYTES") or 0) if first is not None else 0,
    )


async def _write(device: Device) -> None:
    async with _opened() as wg:
        for old in _peers(await _messages(wg, device.interface)):
            await wg.set(device.interface, peer={"public_key": _text(old), "remove": True})
        await wg.set(device.interface, private_key=_base64(device.private))
        if device.peer is not None:
            await wg.set(device.interface, peer=_attributes(device.peer))


def _attributes(peer: Peer) -> dict[str, Any]:
    host, port = peer.endpoint
    attributes: dict[str, Any] = {
        "public_key": peer.public_key,
        "endpoint_addr": host,
        "endpoint_port": port,
        # Above zero the kernel sends one at once when it is set, which starts the handshake
        # (drivers/net/wireguard/netlink.c, set_peer).
        "persistent_keepalive": peer.keepalive_seconds,
        "replace_allowed_ips": True,
        "allowed_ips": [ALLOWED],
    }
    if peer.preshared is not None:
        attributes["preshared_key"] = _base64(peer.preshared)
    return attributes


def _peers(messages: list[Any]) -> list[Any]:
    return [peer for message in messages for peer in message.get_attr("WGDEVICE_A_PEERS") or ()]


def _peer(found: Any, *, sole: bool) -> Peer:
    endpoint = found.get_attr("WGPEER_A_ENDPOINT")
    preshared = _secret(_bytes(found.get_attr("WGPEER_A_PRESHARED_KEY")))
    return Peer(
        public_key=_text(found),
        # More peers than we ever set: no Device of ours equals this one, so the plan will replace them.
        preshared=preshared if sole else Secret(b"\xff" * KEY_BYTES),
        keepalive_seconds=int(found.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0),
        endpoint=(endpoint["addr"], endpoint["port"]) if endpoint is not None else ("", 0),
    )


def _text(peer: Any) -> str:
    value: bytes = peer.get_attr("WGPEER_A_PUBLIC_KEY")
    return value.decode()


def _bytes(value: bytes | None) -> bytes:
    return base64.b64decode(value) if value else _NO_KEY


def _secret(value: bytes) -> Secret | None:
    return None if value == _NO_KEY else Secret(value)


def _base64(secret: Secret | None) -> str:
    return base64.b64encode(secret.reveal() if secret else _NO_KEY).decode()
