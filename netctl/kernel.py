"""The kernel side: observe() into frozen values, apply(operation) back. The one file of rtnetlink.

Idempotent by errno at the bottom: adding what is there and deleting what is gone are successes. No
netlink message leaves this file.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Container, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from fleet.errors import FleetError, TunnelError
from fleet.model import PLACEHOLDERS, PROTOCOL, Fleet, Worker
from netctl import nftables, removal, sysctls
from netctl.libnftables import NftError
from netctl.plan import Operation
from netctl.state import Address, Device, Family, Filter, Gate, Link, Route, Rule, State, Sysctl
from netctl.wireguard import Backend

_FAMILIES: dict[int, Family] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_NUMBERS = {4: socket.AF_INET, 6: socket.AF_INET6}
_THERE = {errno.EEXIST}
_GONE = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL}
_TO_TABLE, _PROHIBIT, _UNREACHABLE, _UNICAST = 1, 8, 7, 1
"""FR_ACT_TO_TBL and FR_ACT_PROHIBIT (linux/fib_rules.h), RTN_UNREACHABLE and RTN_UNICAST (linux/rtnetlink.h)."""
_IFF_UP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one look at the kernel gave."""

    state: State
    """Everything inside our marks."""
    foreign: tuple[tuple[str, str], ...]
    """Objects inside our marks that are not ours: what it is, and the command that shows it."""


class KernelRefused(FleetError):
    """the kernel refused a change"""


def has_ipv6() -> bool:
    """False where the kernel was started with ipv6.disable=1: then there are no IPv6 rules to make."""
    return Path("/proc/sys/net/ipv6").is_dir()


class Kernel:
    """One rtnetlink socket and one WireGuard backend. Use as an async context manager."""

    def __init__(self, backend: Backend, fleet: Fleet) -> None:
        self.backend = backend
        self._workers = {name: worker for worker in fleet.members for name in worker.interfaces}
        self._priorities = {worker.table for worker in fleet.members}
        self._priorities |= {worker.prohibit_priority for worker in fleet.members}
        self._ip = AsyncIPRoute()
        # A netlink socket has one dump at a time, a second one gets EBUSY (__netlink_dump_start in
        # net/netlink/af_netlink.c): two workers' first requests would meet there.
        self._dumping = asyncio.Lock()

    async def __aenter__(self) -> Kernel:
        await self._ip.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ip.close()

    # --- observe

    async def observe(self, *, devices: Container[str] | None = None) -> Found:
        """Look at everything inside our marks; one look at a time. Of the devices those in DEVICES (None: all)."""
        async with self._dumping:
            try:
                return await self._observe(devices)
            except NetlinkError as error:
                # Also a dump that a change has interrupted.
                name = errno.errorcode.get(error.code, str(error.code))
                raise KernelRefused(f"the kernel refused to be looked at: {name}") from None
            except NftError as error:
                raise KernelRefused(f"nftables refused to be looked at: {error}") from None

    async def _observe(self, devices: Container[str] | None) -> Found:
        foreign: list[tuple[str, str]] = []
        names, links = await self._links(foreign)
        filters, gates = nftables.observe()
        state = State(
            links=frozenset(links),
            addresses=frozenset(await self._addresses(names, foreign)),
            routes=frozenset(await self._routes(names, foreign)),
            rules=frozenset(await self._rules(foreign)),
            sysctls=frozenset(sysctls.observe({link.interface for link in links})),
            devices=frozenset(await self._devices(links, devices)),
            gates=gates,
            filters=filters,
        )
        return Found(state=state, foreign=tuple(foreign))

    async def _links(self, foreign: list[tuple[str, str]]) -> tuple[dict[int, str], list[Link]]:
        names: dict[int, str] = {}
        ours: list[Link] = []
        async for message in await self._ip.get_links():
            name = message.get_attr("IFLA_IFNAME")
            names[message["index"]] = name
            info = message.get_attr("IFLA_LINKINFO")
            kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or "?"
            alias = message.get_attr("IFLA_IFALIAS") or ""
            worker = Worker.of_interface(name)
            if worker is None or (name not in self._workers and alias != worker.alias):
                continue
            link = Link(
                interface=name,
                kind=kind,
                alias=alias,
                mtu_bytes=message.get_attr("IFLA_MTU"),
                up=bool(message["flags"] & _IFF_UP),
            )
            if await self._owned(link, worker):
                ours.append(link)
            else:
                foreign.append((f"link {name} ({kind}, alias {alias!r})", f"ip -details link show {name}"))
        return names, ours

    async def _owned(self, link: Link, worker: Worker) -> bool:
        if link.kind != self.backend.link_kind:
            return False
        if link.alias == worker.alias:
            return True
        # wireguard-go makes its tun without our alias; the answering socket says whose it is.
        return not link.alias and link.kind == "tun" and await self.backend.read(link.interface) is not None

    async def _addresses(self, names: dict[int, str], foreign: list[tuple[str, str]]) -> list[Address]:
        ours: list[Address] = []
        async for message in await self._ip.get_addr(family=socket.AF_INET):
            address = IPv4Address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
            if address not in PLACEHOLDERS:
                continue
            name = names.get(message["index"], "?")
            if name == "lo" and message["prefixlen"] == 32:
                ours.append(Address(address=address))
            else:
                text = f"address {address}/{message['prefixlen']} on {name}, inside the placeholders {PLACEHOLDERS}"
                foreign.append((text, f"ip address show {name}"))
        return ours

    async def _routes(self, names: dict[int, str], foreign: list[tuple[str, str]]) -> list[Route]:
        ours: list[Route] = []
        tables = {worker.table for worker in self._workers.values()}
        for family in self._families():
            async for message in await self._ip.get_routes(family=family):
                table = message.get_attr("RTA_TABLE") or message["table"]
                if message["proto"] == PROTOCOL and message["dst_len"] == 0:
                    ours.append(_route(message, names, table))
                elif table in tables:
                    foreign.append((f"a route in table {table}", f"ip -{_FAMILIES[family]} route show table {table}"))
        return ours

    async def _rules(self, foreign: list[tuple[str, str]]) -> list[Rule]:
        ours: list[Rule] = []
        for family in self._families():
            async for message in await self._ip.get_rules(family=family):
                priority = message.get_attr("FRA_PRIORITY") or 0
                if message.get_attr("FRA_PROTOCOL") == PROTOCOL:
                    ours.append(_rule(message))
                elif priority in self._priorities:
                    text = f"an IPv{_FAMILIES[family]} rule of priority {priority} without protocol {PROTOCOL}"
                    foreign.append((text, f"ip -{_FAMILIES[family]} rule show"))
        return ours

    async def _devices(self, links: Sequence[Link], asked: Container[str] | None) -> list[Device]:
        names = [link.interface for link in links if asked is None or link.interface in asked]
        # All at once: one that hangs takes its deadline, and no other waits for it.
        found = await asyncio.gather(*(self._device(name) for name in names))
        return [device for device in found if device is not None]

    async def _device(self, interface: str) -> Device | None:
        """One that does not answer counts as unknown: its own slot's trouble, and no other's."""
        try:
            reading = await self.backend.read(interface)
        except TunnelError:
            return None
        return reading.device if reading is not None else None

    def _families(self) -> list[int]:
        return [socket.AF_INET, socket.AF_INET6] if has_ipv6() else [socket.AF_INET]

    # --- apply

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Apply OPERATIONS in order; neighbouring gates of one verb go in one transaction."""
        for operation in operations:
            try:
                await self._apply(operation)
            except NetlinkError as error:
                name = errno.errorcode.get(error.code, str(error.code))
                raise KernelRefused(f"the kernel refused `{operation}`: {name}") from None
            except NftError as error:
                raise KernelRefused(f"nftables refused `{operation}`: {error}") from None

    async def _apply(self, operation: Operation) -> None:
        thing, verb = operation.thing, operation.verb
        if isinstance(thing, Link):
            await self._change_link(thing, verb)
        elif isinstance(thing, Address):
            await self._change_address(thing, verb)
        elif isinstance(thing, Route):
            await self._change_route(thing, verb)
        elif isinstance(thing, Rule):
            await self._change_rule(thing, verb)
        elif isinstance(thing, Sysctl):
            sysctls.write(thing)
        elif isinstance(thing, Device):
            await self.backend.write(thing)
        elif isinstance(thing, Gate):
            nftables.change(**{"open_" if verb == "open" else "seal": [thing]})
        elif isinstance(thing, Filter):
            nftables.remove() if verb == "delete" else nftables.install(thing, ())

    async def _index(self, interface: str) -> int | None:
        try:
            return socket.if_nametoindex(interface)
        except OSError:
            return None

    async def _change_link(self, link: Link, verb: str) -> None:
        if verb == "add":
            with _fine(_THERE):
                await self._ip.link("add", ifname=link.interface, kind=link.kind)
            return
        index = await self._index(link.interface)
        if index is None:
            return  # gone: the notification of that brings us back
        if verb == "delete":
            if not await removal.delete(index):
                raise TunnelError(f"{link.interface} could not be deleted", hint=f"ip link delete {link.interface}")
        elif verb == "up":
            await self._ip.link("set", index=index, state="up")
        else:
            await self._ip.link("set", index=index, ifalias=link.alias, mtu=link.mtu_bytes)

    async def delete_link(self, interface: str) -> bool:
        """Delete a link; False when the kernel does not do it in time, True when it is gone."""
        index = await self._index(interface)
        return index is None or await removal.delete(index)

    async def _change_address(self, address: Address, verb: str) -> None:
        with _fine(_THERE | _GONE):
            await self._ip.addr(
                "del" if verb == "delete" else "add",
                index=await self._index(address.interface),
                address=str(address.address),
                prefixlen=32,
                scope=0,
            )

    async def _change_route(self, route: Route, verb: str) -> None:
        spec: dict[str, Any] = {
            "family": _NUMBERS[route.family],
            "table": route.table,
            "dst": "default",
            "proto": route.protocol,
        }
        if route.metric:
            spec["priority"] = route.metric
        if route.interface is None:
            spec["type"] = "unreachable"
        else:
            index = await self._index(route.interface)
            if index is None:
                return
            spec |= {"oif": index, "scope": 253}
        if route.source is not None:
            spec["prefsrc"] = str(route.source)
        with _fine(_THERE | _GONE):
            await self._ip.route("del" if verb == "delete" else "add", **spec)

    async def _change_rule(self, rule: Rule, verb: str) -> None:
        spec: dict[str, Any] = {
            "family": _NUMBERS[rule.family],
            "priority": rule.priority,
            "protocol": rule.protocol,
        }
        if rule.uid is not None:
            spec["uid_range"] = f"{rule.uid}:{rule.uid}"
        if rule.source is not None:
            spec |= {"src": str(rule.source), "src_len": 32}
        spec |= {"table": rule.table} if rule.table is not None else {"action": "prohibit"}
        with _fine(_THERE | _GONE):
            await self._ip.rule("del" if verb == "delete" else "add", **spec)


def _route(message: Any, names: dict[int, str], table: int) -> Route:
    source = message.get_attr("RTA_PREFSRC")
    unreachable = message["type"] == _UNREACHABLE
    return Route(
        family=_FAMILIES[message["family"]],
        table=table,
        # The kernel lists an IPv6 unreachable route as going through lo.
        interface=None if unreachable else names.get(message.get_attr("RTA_OIF"), "?"),
        source=IPv4Address(source) if source and message["family"] == socket.AF_INET else None,
        metric=message.get_attr("RTA_PRIORITY") or 0,
    )


def _rule(message: Any) -> Rule:
    uids = message.get_attr("FRA_UID_RANGE")
    source = message.get_attr("FRA_SRC")
    return Rule(
        family=_FAMILIES[message["family"]],
        priority=message.get_attr("FRA_PRIORITY") or 0,
        uid=int(uids.split(":")[0]) if uids else None,
        source=IPv4Address(source) if source else None,
        table=message.get_attr("FRA_TABLE") if message["action"] == _TO_TABLE else None,
    )


class _fine:  # noqa: N801 - reads as the statement it is
    """`with _fine(errnos):` errors that mean "is so already" are successes."""

    def __init__(self, errnos: set[int]) -> None:
        self._errnos = errnos

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        return isinstance(error, NetlinkError) and error.code in self._errnos
