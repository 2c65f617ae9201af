"""Sockets of a program without privileges. A way out is a dictionary, which crosses as JSON:

`kind` (tcp, udp, icmp), `host`, `port`, `data` (hex), and, where the socket is bound, `device` or `source`; with
`freebind` the source may be an address that the host does not have. `kept`: one socket is used again and again, for
datagrams alone; `connected`: it is connected, and made again when somebody has ended it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_DGRAM}
IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""linux/in.h, linux/in6.h: a source that is not ours needs no privilege. Python has no names for them."""


def opened(way: dict[str, Any], timeout_seconds: float = 0) -> socket.socket:
    """A socket bound as WAY says; raises OSError. Without a timeout it waits for nothing."""
    v6 = ":" in way["host"]
    ping = (socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) if way["kind"] == "icmp" else 0
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, KINDS[way["kind"]], ping)
    try:
        made.settimeout(timeout_seconds)
        if way.get("device"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way["device"].encode())
        if way.get("freebind"):
            level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if v6 else (socket.IPPROTO_IP, IP_FREEBIND)
            made.setsockopt(level, option, 1)
        if way.get("source"):
            made.bind((way["source"], 0))
    except OSError:
        made.close()
        raise
    return made


def payload(way: dict[str, Any]) -> bytes:
    """What WAY sends; an echo request for a ping (RFC 792, RFC 4443)."""
    head = bytes([128 if ":" in way["host"] else 8, 0, 0, 0, 0, 1, 0, 1]) if way["kind"] == "icmp" else b""
    return head + bytes.fromhex(way.get("data", b"probe".hex()))


def place(host: str, port: int) -> str:
    """As it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Way:
    """A way out that is tried again and again."""

    def __init__(self, way: dict[str, Any]) -> None:
        self._way, self._target, self._payload = way, (way["host"], way["port"]), payload(way)
        self._kept: socket.socket | None = None

    def __call__(self) -> None:
        """Try once, and wait for no answer; raises OSError."""
        if not self._way.get("kept"):
            with opened(self._way) as made:
                if self._way["kind"] == "tcp":
                    made.connect_ex(self._target)
                else:
                    made.sendto(self._payload, self._target)
        elif self._way.get("connected"):
            self._send_connected()
        else:
            self._kept = self._kept or opened(self._way)
            self._kept.sendto(self._payload, self._target)

    def _send_connected(self) -> None:
        if self._kept is None:
            self._kept = opened(self._way)
            self._kept.connect(self._target)
        try:
            self._kept.send(self._payload)
        except OSError:
            self._kept.close()
            self._kept = None
            raise


def try_all(ways: Sequence[Way]) -> int:
    """Each of WAYS once; that one fails is what is hoped for. How many there are."""
    for way in ways:
        with contextlib.suppress(OSError):
            way()
    return len(ways)
