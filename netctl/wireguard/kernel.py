"""The kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h, linux/genetlink.h).

One request sets key and peer and removes every other peer, so there is no moment between. One socket and
one thread for the program's life: a look costs 0.1 ms, and it is the thread that waits where the kernel
holds its network lock.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import struct
from collections.abc import Callable
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Literal, NamedTuple, TypeVar

from fleet.errors import TunnelError
from fleet.numbers import OUTER_MARK
from netctl.conf import KEY_BYTES, Secret
from netctl.lanes import Lane
from netctl.messages import NESTED, Socket, attribute, attributes, number
from netctl.state import Device, Peer
from netctl.wireguard import CALL_SECONDS, Reading

GENERIC = 16
"""NETLINK_GENERIC."""
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
"""GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID and _NAME."""
_GET, _SET = 0, 1
_IFNAME, _PRIVATE, _FLAGS, _MARK, _PEERS = 2, 3, 5, 7, 8
_REPLACE_PEERS, _REPLACE_ALLOWED = 1, 2
_P_PUBLIC, _P_PRESHARED, _P_FLAGS, _P_ENDPOINT, _P_KEEPALIVE, _P_SHAKEN, _P_RECEIVED, _P_SENT, _P_ALLOWED = range(1, 10)
_A_FAMILY, _A_ADDRESS, _A_MASK = 1, 2, 3
_NOT_THERE = (errno.ENODEV, errno.EOPNOTSUPP)
_NO_KEY = bytes(KEY_BYTES)
T = TypeVar("T")


async def available() -> bool:
    """Whether this kernel has WireGuard; asking for its family loads the module."""
    return await asyncio.to_thread(_available)


def _available() -> bool:
    try:
        asking = Socket(GENERIC)
    except OSError:
        return False
    try:
        return bool(_family(asking))
    except OSError:
        return False
    finally:
        asking.close()


class Kernel:
    """The preferred backend."""

    name: Literal["kernel"] = "kernel"
    link_kind: Literal["wireguard"] = "wireguard"

    def __init__(self) -> None:
        self._lane = Lane("wireguard")
        self._wireguard: _Wireguard | None = None

    async def read(self, interface: str) -> Reading | None:
        """See Backend.read."""
        return await self._in_time(interface, lambda: _read(self._opened(), interface))

    async def write(self, device: Device) -> None:
        """See Backend.write."""
        await self._in_time(device.interface, lambda: self._opened().set(_written(device)))

    async def end(self, interface: str) -> None:
        """See Backend.end: there is no process behind a kernel's device."""

    def _opened(self) -> _Wireguard:
        # By the thread that uses it, at its first use.
        self._wireguard = self._wireguard or _Wireguard()
        return self._wireguard

    async def _in_time(self, interface: str, work: Callable[[], T]) -> T:
        try:
            return await self._lane.run(work, CALL_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise TunnelError(f"the kernel did not answer for {interface} within {CALL_SECONDS:g} s") from None
        except OSError as error:
            raise TunnelError(f"the kernel refused a change of {interface}: {error.strerror}") from None


class _Wireguard:
    """The socket, and the number of WireGuard's family there."""

    def __init__(self) -> None:
        self._socket = Socket(GENERIC)
        self._family = _family(self._socket)

    def get(self, interface: str) -> list[bytes]:
        """The attributes of a device: several messages where it has many peers, none where there is no device."""
        try:
            found = self._socket.dump(self._family, _head(_GET) + attribute(_IFNAME, interface.encode() + b"\0"))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return []
            raise
        return [body[4:] for body in found]

    def set(self, content: bytes) -> None:
        """Change a device."""
        self._socket.request(self._family, _head(_SET) + content)


def _family(asking: Socket) -> int:
    answer = asking.get(_CONTROL, _head(_GET_FAMILY) + attribute(_FAMILY_NAME, b"wireguard\0"))
    return int.from_bytes(dict(attributes(answer[4:]))[_FAMILY_ID], "little")


def _head(command: int) -> bytes:
    return struct.pack("=BBH", command, 1, 0)


def _read(wireguard: _Wireguard, interface: str) -> Reading | None:
    messages = [dict(attributes(body)) for body in wireguard.get(interface)]
    if not messages:
        return None
    peers = [_Line.of(value) for message in messages for _, value in attributes(message.get(_PEERS, b""))]
    first = peers[0] if peers else None
    return Reading(
        device=Device(
            interface=interface,
            private=_secret(messages[0].get(_PRIVATE)),
            peer=first.peer(ours=len(peers) == 1 and number(messages[0].get(_MARK)) == OUTER_MARK) if first else None,
        ),
        last_handshake=first.last_handshake() if first else None,
        received_bytes=first.received_bytes if first else 0,
        sent_bytes=first.sent_bytes if first else 0,
    )


class _Line(NamedTuple):
    """A peer as the kernel lists it."""

    found: dict[int, bytes]
    received_bytes: int
    sent_bytes: int

    @classmethod
    def of(cls, value: bytes) -> _Line:
        found = dict(attributes(value))
        received, sent = (struct.unpack("=Q", found.get(kind, bytes(8)))[0] for kind in (_P_RECEIVED, _P_SENT))
        return cls(found, received, sent)

    def last_handshake(self) -> datetime | None:
        seconds, nanoseconds = struct.unpack("=qq", self.found.get(_P_SHAKEN, bytes(16)))
        return datetime.fromtimestamp(seconds + nanoseconds / 1e9, timezone.utc) if seconds or nanoseconds else None

    def peer(self, *, ours: bool) -> Peer:
        return Peer(
            public_key=base64.b64encode(self.found[_P_PUBLIC]).decode(),
            # More peers than we ever set, or no mark: no Device of ours equals this one, so the plan will set it.
            preshared=_secret(self.found.get(_P_PRESHARED)) if ours else Secret(b"\xff" * KEY_BYTES),
            keepalive_seconds=struct.unpack("=H", self.found.get(_P_KEEPALIVE, bytes(2)))[0],
            endpoint=_endpoint(self.found.get(_P_ENDPOINT, b"")),
        )


def _endpoint(packed: bytes) -> tuple[str, int]:
    """From a struct sockaddr_in or sockaddr_in6."""
    if len(packed) < 8:
        return "", 0
    family, port = struct.unpack_from("=H", packed)[0], struct.unpack_from(">H", packed, 2)[0]
    address = packed[4:8] if family == socket.AF_INET else packed[8:24]
    return str(ip_address(address)), port


def _packed_endpoint(host: str, port: int) -> bytes:
    address = ip_address(host)
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + address.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, 0) + address.packed + bytes(4)


def _written(device: Device) -> bytes:
    """Everything in one request: peers first removed, then the key, then the peer (wg_set_device)."""
    content = attribute(_IFNAME, device.interface.encode() + b"\0")
    content += attribute(_FLAGS, struct.pack("=I", _REPLACE_PEERS))
    # The table lets a worker's encrypted packets pass by it (netctl/ruleset.py).
    content += attribute(_MARK, struct.pack("=I", OUTER_MARK))
    content += attribute(_PRIVATE, device.private.reveal() if device.private else _NO_KEY)
    if device.peer is not None:
        content += attribute(_PEERS | NESTED, attribute(0 | NESTED, _written_peer(device.peer)))
    return content


def _written_peer(peer: Peer) -> bytes:
    everything = attribute(_A_FAMILY, struct.pack("=H", socket.AF_INET)) + attribute(_A_ADDRESS, bytes(4))
    everything += attribute(_A_MASK, b"\0")
    content = attribute(_P_PUBLIC, base64.b64decode(peer.public_key))
    content += attribute(_P_PRESHARED, peer.preshared.reveal()) if peer.preshared else b""
    content += attribute(_P_FLAGS, struct.pack("=I", _REPLACE_ALLOWED))
    content += attribute(_P_ENDPOINT, _packed_endpoint(*peer.endpoint))
    # Above zero the kernel sends one at once when it is set, which starts the handshake (set_peer in
    # drivers/net/wireguard/netlink.c).
    content += attribute(_P_KEEPALIVE, struct.pack("=H", peer.keepalive_seconds))
    return content + attribute(_P_ALLOWED | NESTED, attribute(0 | NESTED, everything))


def _secret(value: bytes | None) -> Secret | None:
    return None if value is None or value == _NO_KEY else Secret(value)
