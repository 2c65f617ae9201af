"""Address and link notifications of the kernel, each with the worker it belongs to."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import IPv4Address
from typing import Any

from pydantic import JsonValue
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK

from fleet.model import PLACEHOLDERS, Worker

KINDS = ("RTM_NEWADDR", "RTM_DELADDR", "RTM_NEWLINK", "RTM_DELLINK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification."""

    time: datetime
    kind: str
    """`RTM_NEWADDR`, `RTM_DELADDR`, `RTM_NEWLINK` or `RTM_DELLINK`; the first two can end Chrome's requests."""
    interface: str
    address: str | None
    alias: str | None
    up: bool | None
    worker: Worker | None

    def as_json(self) -> dict[str, JsonValue]:
        """For `netctl monitor --json`."""
        return {
            "time": self.time.isoformat(),
            "kind": self.kind,
            "interface": self.interface,
            "address": self.address,
            "up": self.up,
            "worker": self.worker.name if self.worker else None,
        }


async def notices(*, addresses: bool = True) -> AsyncIterator[Notice]:
    """Notifications as they come, for ever; without ADDRESSES links alone. Needs no privilege."""
    groups = RTMGRP_LINK | ((RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR) if addresses else 0)
    async with AsyncIPRoute() as netlink:
        await netlink.bind(groups=groups)
        while True:
            async for message in netlink.get():
                kind = message["event"]
                if kind in KINDS:
                    yield _address(message) if kind.endswith("ADDR") else _link(message)


def _address(message: Any) -> Notice:
    text = _get(message, "IFA_LOCAL") or _get(message, "IFA_ADDRESS") or ""
    interface = _name(message["index"])
    worker = Worker.of_interface(interface)
    if worker is None and ":" not in text and text and IPv4Address(text) in PLACEHOLDERS:
        number = int(IPv4Address(text)) - int(PLACEHOLDERS.network_address)
        worker = Worker.of_interface(f"wg{number}")
    return Notice(
        time=datetime.now(timezone.utc),
        kind=str(message["event"]),
        interface=interface,
        address=f"{text}/{message['prefixlen']}",
        alias=None,
        up=None,
        worker=worker,
    )


def _link(message: Any) -> Notice:
    interface = _get(message, "IFLA_IFNAME") or "?"
    return Notice(
        time=datetime.now(timezone.utc),
        kind=str(message["event"]),
        interface=interface,
        address=None,
        alias=_get(message, "IFLA_IFALIAS"),
        up=bool(message["flags"] & 1),
        worker=Worker.of_interface(interface),
    )


def _get(message: Any, name: str) -> str | None:
    value: str | None = message.get_attr(name)
    return value


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"#{index}"  # gone again
