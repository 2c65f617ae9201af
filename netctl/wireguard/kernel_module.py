"""The kernel's WireGuard over generic netlink (include/uapi/linux/wireguard.h, linux/genetlink.h).

pyroute2 writes: one request sets key and peer and removes every other peer (its own `set` never does), so there
is no moment between. Reading is raw: it is done every millisecond while a handshake is waited for, and costs
0.1 ms. One thread for the program's life: it is the one that waits where the kernel holds its network lock.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import closing
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

from fleet.backends import KERNEL
from fleet.errors import TunnelError
from fleet.imports import bare
from fleet.isolation import HOST
from fleet.numbers import OUTER_MARK
from netctl.kernel.netlink import Socket, attribute, attributes, number
from netctl.kernel.setns import PerSpace, Spaces
from netctl.plan.key import KEY_BYTES, Endpoint, Secret
from netctl.plan.things import Device, Peer
from netctl.threads import WorkThread
from netctl.wireguard.contract import CALL_SECONDS, Reading, moment

with bare("pyroute2"):
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic.wireguard import (
        WG_CMD_SET_DEVICE,
        WG_GENL_VERSION,
        WGDEVICE_F_REPLACE_PEERS,
        WGPEER_F_REPLACE_ALLOWEDIPS,
        WireGuard,
        wgmsg,
    )

GENERIC = 16
"""NETLINK_GENERIC."""
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
"""GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID and _NAME."""
_GET = 0
_IFNAME, _PRIVATE, _MARK, _PEERS = 2, 3, 7, 8
_P_PUBLIC, _P_PRESHARED, _P_ENDPOINT, _P_KEEPALIVE, _P_SHAKEN, _P_RECEIVED, _P_SENT = 1, 2, 4, 5, 6, 7, 8
_P_ALLOWED, _A_ADDRESS, _A_PREFIX = 9, 2, 3
_NOT_THERE = (errno.ENODEV, errno.EOPNOTSUPP)
_NO_KEY = bytes(KEY_BYTES)
T = TypeVar("T")


async def found(spaces: Spaces | None = None) -> KernelWireGuard | None:
    """The kernel's WireGuard in SPACES; None where it has none. Asking for its family loads the module."""
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
        # By the thread that uses it; the kernel looks a device up where the socket was made.
        self._wireguard = PerSpace(self._spaces, lambda _: _Wireguard(), _Wireguard.close)

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        return await self._in_time(interface, space, lambda: _read(self._wireguard.at(space), interface, space))

    async def write(self, device: Device) -> None:
        space = device.space
        await self._in_time(device.interface, space, lambda: self._wireguard.at(space).set(device))

    async def restart(self, interface: str) -> bool:
        """See WireGuard.restart: the kernel itself is the device."""
        return False

    async def _in_time(self, interface: str, space: str, work: Callable[[], T]) -> T:
        try:
            return await self._thread.run(lambda: self._spaces.inside(space, work), CALL_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise TunnelError(f"the kernel did not answer for {interface} within {CALL_SECONDS:g} s") from None
        except OSError as error:
            raise TunnelError(f"the kernel refused a change of {interface}: {error.strerror}") from None


class _Wireguard:
    """pyroute2's socket and a raw one, and the number of WireGuard's family there."""

    def __init__(self) -> None:
        self._socket = Socket(GENERIC)
        self._family = _family(self._socket)
        self._writing = WireGuard()

    def close(self) -> None:
        self._socket.close()
        self._writing.close()

    def get(self, interface: str) -> list[bytes]:
        """The attributes of a device: several messages where it has many peers, none where there is no device."""
        try:
            found = self._socket.dump(self._family, _head(_GET) + attribute(_IFNAME, interface.encode() + b"\0"))
        except OSError as error:
            if error.errno in _NOT_THERE:
                return []
            raise
        return [body[4:] for body in found]

    def set(self, device: Device) -> None:
        """Change a device; raises OSError."""
        try:
            self._writing.nlm_request(_written(device), msg_type=self._family, msg_flags=NLM_F_REQUEST | NLM_F_ACK)
        except NetlinkError as error:
            # Its own words may repeat the request, which holds the key.
            raise OSError(error.code, os.strerror(error.code)) from None


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
    return Peer(
        public_key=base64.b64encode(found[_P_PUBLIC]).decode(),
        # Several peers or no mark is never netctl's: this Device equals none that is desired, so the plan sets it.
        preshared=_secret(found.get(_P_PRESHARED)) if ours else Secret(b"\xff" * KEY_BYTES),
        keepalive_seconds=struct.unpack("=H", found.get(_P_KEEPALIVE, bytes(2)))[0],
        ipv6=any(_is_all_v6(value) for _, value in attributes(found.get(_P_ALLOWED, b""))),
        endpoint=_endpoint(found.get(_P_ENDPOINT, b"")),
    )


def _is_all_v6(packed: bytes) -> bool:
    """Whether a WGPEER_A_ALLOWEDIPS entry is ::/0."""
    found = dict(attributes(packed))
    return found.get(_A_ADDRESS) == bytes(16) and found.get(_A_PREFIX, b"")[:1] == b"\0"


def _endpoint(packed: bytes) -> Endpoint:
    """From a struct sockaddr_in or sockaddr_in6."""
    if len(packed) < 8:
        return Endpoint("", 0)
    family, port = struct.unpack_from("=H", packed)[0], struct.unpack_from(">H", packed, 2)[0]
    address = packed[4:8] if family == socket.AF_INET else packed[8:24]
    return Endpoint(str(ip_address(address)), port)


def _written(device: Device) -> wgmsg:
    """Everything in one request: peers first removed, then the key, then the peer (wg_set_device)."""
    message = wgmsg()
    message["cmd"], message["version"] = WG_CMD_SET_DEVICE, WG_GENL_VERSION
    message["attrs"] = [
        ["WGDEVICE_A_IFNAME", device.interface],
        ["WGDEVICE_A_FLAGS", WGDEVICE_F_REPLACE_PEERS],
        # The table lets a worker's encrypted packets pass by it (netctl/filter/rules.py).
        ["WGDEVICE_A_FWMARK", OUTER_MARK],
        ["WGDEVICE_A_PRIVATE_KEY", _base64(device.private)],
    ]
    if device.peer is not None:
        message["attrs"].append(["WGDEVICE_A_PEERS", [{"attrs": _written_peer(device.peer)}]])
    return message


def _written_peer(peer: Peer) -> list[list[Any]]:
    networks = [ip_network(network) for network in peer.allowed]
    attributes_ = [
        ["WGPEER_A_PUBLIC_KEY", peer.public_key],
        ["WGPEER_A_FLAGS", WGPEER_F_REPLACE_ALLOWEDIPS],
        ["WGPEER_A_ENDPOINT", {"addr": peer.endpoint.host, "port": peer.endpoint.port}],
        # Above zero the kernel sends one at once when it is set, which starts the handshake (set_peer in
        # drivers/net/wireguard/netlink.c).
        ["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", peer.keepalive_seconds],
        ["WGPEER_A_ALLOWEDIPS", [{"attrs": _written_network(network)} for network in networks]],
    ]
    if peer.preshared is not None:
        attributes_.append(["WGPEER_A_PRESHARED_KEY", _base64(peer.preshared)])
    return attributes_


def _written_network(network: IPv4Network | IPv6Network) -> list[list[Any]]:
    return [
        ["WGALLOWEDIP_A_FAMILY", socket.AF_INET if network.version == 4 else socket.AF_INET6],
        ["WGALLOWEDIP_A_IPADDR", network.network_address.packed],
        ["WGALLOWEDIP_A_CIDR_MASK", network.prefixlen],
    ]


def _base64(secret: Secret | None) -> str:
    return base64.b64encode(secret.reveal() if secret else _NO_KEY).decode()


def _secret(value: bytes | None) -> Secret | None:
    return None if value is None or value == _NO_KEY else Secret(value)
