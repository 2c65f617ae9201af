"""The kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h, linux/genetlink.h).

Raw, because one request sets key and peer and removes every other peer (pyroute2's `set` never does), without a moment
in between; and because a device is read every millisecond during a handshake, which costs 0.1 ms here. One thread for
the program's life makes the calls, so only it waits while the kernel's network lock is held.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeVar

from fleet.backends import KERNEL
from fleet.errors import TunnelError
from fleet.isolation import HOST
from fleet.numbers import OUTER_MARK
from netctl.kernel.netlink import NESTED, Socket, attribute, attributes, number
from netctl.kernel.setns import PerSpace, Spaces
from netctl.plan.key import KEY_BYTES, Endpoint, Secret
from netctl.plan.things import Device, Peer
from netctl.threads import WorkThread
from netctl.wireguard.contract import CALL_SECONDS, Reading, moment

GENERIC = 16
"""NETLINK_GENERIC."""
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
"""GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID and _NAME."""
_GET, _SET = 0, 1
_IFNAME, _PRIVATE, _FLAGS, _MARK, _PEERS = 2, 3, 5, 7, 8
_P_PUBLIC, _P_PRESHARED, _P_FLAGS, _P_ENDPOINT, _P_KEEPALIVE, _P_SHAKEN, _P_RECEIVED, _P_SENT = range(1, 9)
_P_ALLOWED, _A_FAMILY, _A_ADDRESS, _A_PREFIX = 9, 1, 2, 3
_REPLACE_PEERS, _REPLACE_ALLOWED, _UPDATE_ALLOWED = (struct.pack("=I", flags) for flags in (1, 2, 2 | 4))
"""WGDEVICE_F_REPLACE_PEERS; WGPEER_F_REPLACE_ALLOWEDIPS, and with WGPEER_F_UPDATE_ONLY."""
_NOT_THERE = (errno.ENODEV, errno.EOPNOTSUPP)
_NO_KEY = bytes(KEY_BYTES)
T = TypeVar("T")


async def found(spaces: Spaces | None = None) -> KernelWireGuard | None:
    """The kernel's WireGuard, for devices in SPACES too; None if the kernel has none. Looking up its family loads the
    module."""
    return KernelWireGuard(spaces) if await asyncio.to_thread(_available) else None


def _available() -> bool:
    try:
        with closing(Socket(GENERIC)) as asking:
            return bool(_family(asking))
    except OSError:
        return False


class KernelWireGuard:
    """See netctl.wireguard.contract."""

    backend = KERNEL

    def __init__(self, spaces: Spaces | None = None) -> None:
        self._thread = WorkThread("wireguard")
        self._spaces = spaces or Spaces()
        # Made by the thread that uses it; the kernel looks up a device in the namespace where the socket was made.
        self._wireguard = PerSpace(self._spaces, lambda _: _Wireguard(), _Wireguard.close)

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        return await self._in_time(interface, space, lambda: _read(self._wireguard.at(space), interface, space))

    async def write(self, device: Device) -> None:
        space = device.space
        await self._in_time(device.interface, space, lambda: self._wireguard.at(space).set(_written(device)))

    async def open(self, device: Device) -> None:
        space = device.space
        await self._in_time(device.interface, space, lambda: self._wireguard.at(space).set(_opened(device)))

    async def restart(self, interface: str) -> bool:
        """See WireGuard.restart: there is no program."""
        return False

    async def _in_time(self, interface: str, space: str, work: Callable[[], T]) -> T:
        try:
            return await self._thread.run(lambda: self._spaces.inside(space, work), CALL_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise TunnelError(f"the kernel did not answer for {interface} within {CALL_SECONDS:g} s") from None
        except OSError as error:
            raise TunnelError(f"the kernel refused a change of {interface}: {error.strerror}") from None


class _Wireguard:
    """A generic netlink socket, and the number of the WireGuard family."""

    def __init__(self) -> None:
        self._socket = Socket(GENERIC)
        self._family = _family(self._socket)

    def close(self) -> None:
        self._socket.close()

    def get(self, interface: str) -> list[bytes]:
        """The attributes of a device: several messages if it has many peers, none if there is no device."""
        try:
            found = self._socket.dump(self._family, _head(_GET) + attribute(_IFNAME, interface.encode() + b"\0"))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return []
            raise
        return [body[4:] for body in found]

    def set(self, written: bytes) -> None:
        """Change a device by the attributes WRITTEN; raises OSError."""
        self._socket.request(self._family, _head(_SET) + written)


def _family(asking: Socket) -> int:
    answer = asking.get(_CONTROL, _head(_GET_FAMILY) + attribute(_FAMILY_NAME, b"wireguard\0"))
    return int.from_bytes(dict(attributes(answer[4:]))[_FAMILY_ID], "little")


def _head(command: int) -> bytes:
    return struct.pack("=BBH", command, 1, 0)


def _read(wireguard: _Wireguard, interface: str, space: str) -> Reading | None:
    messages = [dict(attributes(body)) for body in wireguard.get(interface)]
    if not messages:
        return None
    private, mark = _secret(messages[0].get(_PRIVATE)), number(messages[0].get(_MARK))
    peers = [dict(attributes(value)) for message in messages for _, value in attributes(message.get(_PEERS, b""))]
    first = peers[0] if peers else {}
    received, sent = (struct.unpack("=Q", first.get(kind, bytes(8)))[0] for kind in (_P_RECEIVED, _P_SENT))
    return Reading(
        device=Device(
            interface=interface,
            space=space,
            private=private,
            peer=_peer(first, ours=len(peers) == 1 and mark == OUTER_MARK) if first else None,
        ),
        last_handshake=moment(*struct.unpack("=qq", first.get(_P_SHAKEN, bytes(16)))),
        received_bytes=received,
        sent_bytes=sent,
    )


def _peer(found: Mapping[int, bytes], *, ours: bool) -> Peer:
    whole = {_is_all_of(value) for _, value in attributes(found.get(_P_ALLOWED, b""))}
    return Peer(
        public_key=base64.b64encode(found[_P_PUBLIC]).decode(),
        # netctl never sets several peers or no mark: then make this Device unequal to any desired one, so that the plan
        # sets it.
        preshared=_secret(found.get(_P_PRESHARED)) if ours else Secret(b"\xff" * KEY_BYTES),
        keepalive_seconds=struct.unpack("=H", found.get(_P_KEEPALIVE, bytes(2)))[0],
        ipv6=16 in whole,
        open=4 in whole,
        endpoint=_endpoint(found.get(_P_ENDPOINT, b"")),
    )


def _is_all_of(packed: bytes) -> int:
    """The address length (4 or 16 bytes) of a WGPEER_A_ALLOWEDIPS entry that has all addresses; else 0."""
    found = dict(attributes(packed))
    address = found.get(_A_ADDRESS, b"")
    return len(address) if not any(address) and found.get(_A_PREFIX, b"")[:1] == b"\0" else 0


def _endpoint(packed: bytes) -> Endpoint:
    """The endpoint in a struct sockaddr_in or sockaddr_in6."""
    if len(packed) < 8:
        return Endpoint("", 0)
    family, port = struct.unpack_from("=H", packed)[0], struct.unpack_from(">H", packed, 2)[0]
    address = packed[4:8] if family == socket.AF_INET else packed[8:24]
    return Endpoint(str(ip_address(address)), port)


def _written(device: Device) -> bytes:
    """The attributes that set everything: the kernel removes the peers, sets the key, then the peer (wg_set_device)."""
    written = attribute(_IFNAME, device.interface.encode() + b"\0") + attribute(_FLAGS, _REPLACE_PEERS)
    # By this mark the table lets a worker's encrypted packets pass (netctl/filter/rules.py).
    written += attribute(_MARK, struct.pack("=I", OUTER_MARK))
    written += attribute(_PRIVATE, device.private.reveal() if device.private else _NO_KEY)
    if device.peer is not None:
        written += attribute(_PEERS | NESTED, attribute(NESTED, _written_peer(device.peer)))
    return written


def _opened(device: Device) -> bytes:
    """The attributes that set only the allowed ips of its peer, and only if the device has that peer."""
    assert device.peer is not None
    peer = _name(device.peer) + attribute(_P_FLAGS, _UPDATE_ALLOWED) + _networks(device.peer)
    return attribute(_IFNAME, device.interface.encode() + b"\0") + attribute(_PEERS | NESTED, attribute(NESTED, peer))


def _written_peer(peer: Peer) -> bytes:
    written = _name(peer) + attribute(_P_FLAGS, _REPLACE_ALLOWED)
    written += attribute(_P_ENDPOINT, _sockaddr(peer.endpoint))
    # Above zero the kernel sends a keepalive at once when this is set, which starts the handshake (set_peer in
    # drivers/net/wireguard/netlink.c).
    written += attribute(_P_KEEPALIVE, struct.pack("=H", peer.keepalive_seconds))
    written += _networks(peer)
    return written + (attribute(_P_PRESHARED, peer.preshared.reveal()) if peer.preshared else b"")


def _name(peer: Peer) -> bytes:
    return attribute(_P_PUBLIC, base64.b64decode(peer.public_key))


def _networks(peer: Peer) -> bytes:
    networks = (attribute(NESTED, _written_network(ip_network(network))) for network in peer.allowed)
    return attribute(_P_ALLOWED | NESTED, b"".join(networks))


def _written_network(network: IPv4Network | IPv6Network) -> bytes:
    family = struct.pack("=H", socket.AF_INET if network.version == 4 else socket.AF_INET6)
    address, prefix = network.network_address.packed, bytes([network.prefixlen])
    return attribute(_A_FAMILY, family) + attribute(_A_ADDRESS, address) + attribute(_A_PREFIX, prefix)


def _sockaddr(way: Endpoint) -> bytes:
    """A struct sockaddr_in or sockaddr_in6, without a scope."""
    address = ip_address(way.host)
    if address.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", way.port, address.packed)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">H4x16s4x", way.port, address.packed)


def _secret(value: bytes | None) -> Secret | None:
    return None if value is None or value == _NO_KEY else Secret(value)
