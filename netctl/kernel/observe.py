"""Reads the objects within netctl's marks from rtnetlink and /proc/sys, as frozen values; blocks and needs a thread."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from fleet.backends import BACKENDS, Backend
from fleet.isolation import HOST
from fleet.model import PLACEHOLDERS_V6, PROTOCOL, Worker
from fleet.numbers import PROHIBIT_OFFSET, SHORTCUTS, TABLES, placeholders
from netctl.kernel import rtnetlink
from netctl.kernel.netlink import Socket
from netctl.plan.desired import KERNEL_PROTOCOL, addr_gen_mode, disable_ipv6, first_rule, rp_filter
from netctl.plan.key import Endpoint
from netctl.plan.state import State
from netctl.plan.things import Address, Link, Space, Stack, Sysctl, Thing

KINDS = {one.link_kind for one in BACKENDS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The result of one look at the kernel."""

    state: State
    """All objects of netctl's."""
    foreign: tuple[tuple[str, str], ...]
    """Objects within netctl's marks that are not netctl's: each with its description and the command that shows it."""
    blocked: frozenset[int] = frozenset()
    """UIDs of the workers that such objects block."""
    crowded: bool = False
    """See Sight."""

    def __or__(self, other: Found) -> Found:
        return Found(
            state=self.state | other.state,
            foreign=self.foreign + other.foreign,
            blocked=self.blocked | other.blocked,
            crowded=self.crowded or other.crowded,
        )


@dataclass(slots=True, kw_only=True)
class Sight:
    """The partial result of a look at one namespace."""

    space: str = HOST
    things: list[Thing] = field(default_factory=list)
    """netctl's objects, except nftables and devices."""
    unmarked: list[Link] = field(default_factory=list)
    """Links with one of netctl's names but without a mark: netctl's if their program answers under that name."""
    names: dict[int, str] = field(default_factory=dict)
    """The names of all links, by index."""
    local: set[IPv4Address | IPv6Address] = field(default_factory=set)
    """The addresses for which the kernel accepts packets."""
    loopback_down: bool = False
    interfaces: set[str] = field(default_factory=set)
    """Names of the links that are netctl's or unmarked."""
    foreign: list[tuple[str, str]] = field(default_factory=list)
    blocked: set[int] = field(default_factory=set)
    crowded: bool = False
    """Another program has a rule among the workers', which shortcuts would skip."""

    def refuse(self, what: str, command: str, worker: Worker | None) -> None:
        """Note the foreign object WHAT, which blocks WORKER; COMMAND, an `ip` command, shows it."""
        if self.space != HOST:
            what, command = f"{what} in {self.space}", f"ip -n {self.space}{command[2:]}"
        self.foreign.append((what, command))
        if worker is not None:
            self.blocked.add(worker.uid)

    def own_link(self, link: Link) -> None:
        """Note LINK as netctl's."""
        self.things.append(link)
        self.interfaces.add(link.interface)

    def refuse_link(self, link: Link) -> None:
        """Note LINK, which has one of netctl's names but is not netctl's, as foreign."""
        what = f"link {link.interface} ({link.kind}, alias {link.alias!r})"
        self.refuse(what, f"ip -details link show {link.interface}", Worker.of_interface(link.interface))


class Observer:
    """Finds the objects of MEMBERS, and by their marks those of any other worker."""

    def __init__(self, members: Iterable[Worker], backend: Backend | None) -> None:
        """BACKEND is the one that the members' links belong to."""
        self._workers = {name: worker for worker in members for name in worker.interfaces}
        self._priorities = {
            priority: worker
            for worker in self._workers.values()
            for priority in (worker.table, worker.prohibit_priority)
        }
        self._backend = backend
        self._own_links: set[tuple[str, int]] = set()
        """Namespace and index of the links that were netctl's at an earlier look: their marks may have been removed."""
        self._judges: dict[int, Callable[[bytes, Sight], None]] = {
            rtnetlink.GET_ROUTE: self._route,
            rtnetlink.GET_RULE: self._rule,
        }

    def look(self, netlink: Socket, space: str = HOST) -> Sight:
        """Look once at SPACE; the calling thread must be in it, and NETLINK made in it. Raises OSError."""
        sight = Sight(space=space)
        if space != HOST:
            sight.things.append(Space(space=space))
        for body in netlink.dump(rtnetlink.GET_LINK, rtnetlink.all_links()):
            self._link(body, sight)
        for family in families():
            # Read before the routes: the kernel adds an address first, and its local route after it. Judged after them.
            addresses = netlink.dump(rtnetlink.GET_ADDRESS, rtnetlink.all_of(family))
            for kind, judge in self._judges.items():
                for body in netlink.dump(kind, rtnetlink.all_of(family)):
                    judge(body, sight)
            for body in addresses:
                self._address(body, sight)
        sight.things += _sysctls(sight.interfaces, space)
        return sight

    def _link(self, body: bytes, sight: Sight) -> None:
        index, link = rtnetlink.read_link(body, sight.space)
        sight.names[index] = link.interface
        place, worker = (sight.space, index), self._workers.get(link.interface)
        if worker is None:
            sight.loopback_down |= link.interface == "lo" and not link.up
            # Only its mark shows that it is netctl's: a former worker's, or renamed by another program.
            if of_alias(link.alias) is not None and link.kind in KINDS:
                sight.own_link(link)
        elif self._backend is None or link.kind != self._backend.link_kind:
            sight.refuse_link(link)
        elif link.alias == worker.alias or place in self._own_links:
            self._own_links.add(place)
            sight.own_link(link)
        elif not self._backend.makes_links and not link.alias:
            sight.unmarked.append(link)
            sight.interfaces.add(link.interface)
        else:
            sight.refuse_link(link)

    def _address(self, body: bytes, sight: Sight) -> None:
        index, address, prefix, tentative = rtnetlink.read_address(body)
        name = sight.names.get(index, "?")
        network = placeholders() if isinstance(address, IPv4Address) else PLACEHOLDERS_V6
        placeholder = address in network
        loopback = address.is_loopback and sight.space != HOST
        own = loopback or (placeholder and prefix == address.max_prefixlen)
        if name in sight.interfaces or (own and name == "lo"):
            routed = tentative or address in sight.local
            dead = not routed or (name == "lo" and sight.space != HOST and sight.loopback_down)
            if not (own and dead):  # the kernel accepts no packet for it: add it again
                sight.things.append(Address(address=address, interface=name, prefix=prefix, space=sight.space))
        elif placeholder:
            text = f"address {address}/{prefix} on {name}, within the placeholders {network}"
            sight.refuse(text, f"ip address show {name}", Worker.of_placeholder(address))

    def _route(self, body: bytes, sight: Sight) -> None:
        if rtnetlink.header_table(body) != rtnetlink.COMPAT_TABLE:
            if address := rtnetlink.read_local(body):
                sight.local.add(address)
            return  # netctl's tables are all above 255
        route, prefix = rtnetlink.read_route(body, sight.names, sight.space)
        worker = self._priorities.get(route.table)
        if route.protocol == PROTOCOL and prefix == 0 and of_priority(route.table):
            sight.things.append(route)
        elif worker is not None and route.table == worker.table:
            text = f"a route in table {route.table}"
            sight.refuse(text, f"ip -{route.family} route show table {route.table}", worker)

    def _rule(self, body: bytes, sight: Sight) -> None:
        rule = rtnetlink.read_rule(body, sight.space)
        worker = self._priorities.get(rule.priority)
        if rule.protocol == PROTOCOL and of_priority(rule.priority):
            sight.things.append(rule)
        elif sight.space != HOST and replace(rule, protocol=KERNEL_PROTOCOL) == first_rule(rule.family, sight.space):
            sight.things.append(first_rule(rule.family, sight.space))  # whoever has made it
        elif sight.space == HOST and rule.protocol == PROTOCOL and rule.priority in SHORTCUTS:
            sight.things.append(rtnetlink.read_shortcut(body))
        else:
            sight.crowded |= sight.space == HOST and SHORTCUTS[0] <= rule.priority < SHORTCUTS[-1]
            if worker is None:
                return
            text = f"an IPv{rule.family} rule of priority {rule.priority} without protocol {PROTOCOL}"
            sight.refuse(text, f"ip -{rule.family} rule show", worker)


def of_alias(alias: str) -> Worker | None:
    """The worker whose mark is ALIAS; None if it is no mark."""
    worker = Worker.named(alias.removeprefix("fleet:"))
    return worker if worker is not None and alias == worker.alias else None


def of_priority(number: int) -> Worker | None:
    """The worker whose table, lookup rules or prohibit rules have NUMBER; None: no worker's."""
    return Worker.numbered(number - TABLES) or Worker.numbered(number - TABLES - PROHIBIT_OFFSET)


def has_ipv6() -> bool:
    """False where the kernel was booted with ipv6.disable=1: then it has no IPv6 rules."""
    return Path("/proc/sys/net/ipv6").is_dir()


def ipv6_stack() -> Stack:
    """Whether this kernel has IPv6, and whether it is on now: an administrator may turn it off and on."""
    try:
        # Every rotation reads it three times: unbuffered and without a Path it takes 13 us instead of 47.
        with open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "rb", buffering=0) as file:  # noqa: PTH123
            return "on" if file.read(1) == b"0" else "off"
    except FileNotFoundError:
        return "absent"


def source(way: Endpoint) -> IPv4Address | IPv6Address | None:
    """The host's source address towards WAY; None where there is no route to it. Sends nothing (connect(2))."""
    family = socket.AF_INET6 if ":" in way.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((way.host, way.port))
            return ip_address(asking.getsockname()[0])
    except OSError:
        return None


def families() -> tuple[int, ...]:
    """The address families of this kernel."""
    return (socket.AF_INET, socket.AF_INET6) if has_ipv6() else (socket.AF_INET,)


def _sysctls(interfaces: set[str], space: str) -> Iterator[Sysctl]:
    """The rp_filter of every interface and the IPv6 settings of INTERFACES, in SPACE, where the calling thread is."""
    for folder in Path("/proc/sys/net/ipv4/conf").iterdir():
        yield from _set(rp_filter(folder.name, 0, space))
    for interface in interfaces:
        yield from _set(addr_gen_mode(interface, space))
        yield from _set(disable_ipv6(interface, space))


def _set(sysctl: Sysctl) -> Iterator[Sysctl]:
    """SYSCTL with its current value; nothing where the interface has just been deleted."""
    path = "/".join(("/proc/sys", *sysctl.path))  # with 512 workers 1,500 files: as in ipv6_stack()
    with contextlib.suppress(OSError, ValueError), open(path, "rb", buffering=0) as file:  # noqa: PTH123
        yield replace(sysctl, value=int(file.read(16)))
