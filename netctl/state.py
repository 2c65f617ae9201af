"""What the kernel should hold, as frozen values: a pure function of the fleet and its leases.

Every value is one object of the kernel that netctl owns; equality is "nothing to do". The plan
compares two States, the kernel side observes one and applies operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from fleet.model import PROTOCOL, Fleet, Worker
from netctl.conf import Key, Secret

LAST_METRIC = 4294967295
"""The metric that loses against every other: 2^32 - 1."""
Family = Literal[4, 6]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A worker's interface. A `tun` is made by wireguard-go, a `wireguard` by us."""

    interface: str
    kind: str
    alias: str
    mtu_bytes: int
    up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A placeholder on `lo`; also whatever somebody else has put on a worker's interface, which has none."""

    address: IPv4Address | IPv6Address
    interface: str = "lo"
    prefix: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A default route of a worker's table: through its interface, or `unreachable` behind everything."""

    family: Family
    table: int
    interface: str | None = None
    """None: unreachable."""
    source: IPv4Address | None = None
    metric: int = 0
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's own words for one that has more to it: none of ours, and deleted by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy rule that selects by UID or by placeholder source, and looks a table up or prohibits."""

    family: Family
    priority: int
    uid: int | None = None
    source: IPv4Address | None = None
    table: int | None = None
    """None: prohibit."""
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's own words for one that has more to it: none of ours, and deleted by them."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sysctl:
    """One file below /proc/sys; a tuple, because interface names may hold dots."""

    path: tuple[str, ...]
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The VPN server as a device knows it; everything is allowed through it."""

    public_key: str
    preshared: Secret | None
    keepalive_seconds: int
    # The kernel follows a server that answers from elsewhere: a moved endpoint is no difference.
    endpoint: tuple[str, int] = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A WireGuard device's key and its one peer; both None: sealed."""

    interface: str
    private: Secret | None = None
    peer: Peer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """An opening in the nftables table: this worker may leave, as ADDRESS, through its own interface."""

    uid: int
    address: IPv4Address
    interface: str

    @property
    def worker(self) -> Worker:
        return Worker(uid=self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The table `inet fleet` without its gates: who is held back, and which resolvers may be asked."""

    uids: frozenset[int]
    resolvers: frozenset[IPv4Address]
    intact: bool = True
    """False when observed chains or rules are not what this program writes."""


Thing = Link | Address | Route | Rule | Sysctl | Device | Gate | Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of it, or one worker's slice."""

    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    devices: frozenset[Device] = frozenset()
    gates: frozenset[Gate] = frozenset()
    filters: frozenset[Filter] = frozenset()
    """None or one; a set like the others, so that the plan needs no special case."""

    def __or__(self, other: State) -> State:
        return State(**{part.name: getattr(self, part.name) | getattr(other, part.name) for part in fields(State)})

    def __sub__(self, other: State) -> State:
        return State(**{part.name: getattr(self, part.name) - getattr(other, part.name) for part in fields(State)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a slot holds: the key, where its server is, and whether traffic may pass yet."""

    key: Key
    endpoint: tuple[str, int]
    """Address and port; names are resolved."""
    open: bool


def desired(
    fleet: Fleet, leases: Mapping[int, Held], *, kind: str, ipv6: bool = True, spare: frozenset[int] = frozenset()
) -> State:
    """The State that FLEET and LEASES (by UID) ask for; KIND is the backend's link kind.

    The links of the workers in SPARE (UIDs) have their spare names.
    """
    whole = shared(fleet)
    for worker in fleet.members:
        held = leases.get(worker.uid)
        whole |= slot(fleet, worker, held, kind=kind, ipv6=ipv6, spare=worker.uid in spare)
    return whole


def shared(fleet: Fleet) -> State:
    """What belongs to no one worker: the table that holds all back, and rp_filter of `all`."""
    resolvers = (address for address in fleet.dns.resolvers if isinstance(address, IPv4Address))
    return State(
        # An address-less interface needs 0 for itself and for `all`: the kernel takes the larger
        # (Documentation/networking/ip-sysctl.rst, rp_filter).
        sysctls=frozenset({rp_filter("all", 0)}),
        filters=frozenset(
            {Filter(uids=frozenset(worker.uid for worker in fleet.members), resolvers=frozenset(resolvers))}
        ),
    )


def slot(
    fleet: Fleet, worker: Worker, held: Held | None, *, kind: str, ipv6: bool = True, spare: bool = False
) -> State:
    """One worker's slice: its layers always, its device and gate as HELD says, under the SPARE name or the usual."""
    name = worker.spare_interface if spare else worker.interface
    gates = {Gate(uid=worker.uid, address=held.key.address, interface=name)} if held is not None and held.open else ()
    return replace(
        _layers(worker, name, kind, fleet.wireguard.mtu, ipv6),
        devices=frozenset({device(fleet, name, held)}),
        gates=frozenset(gates),
    )


@cache
def _layers(worker: Worker, name: str, kind: str, mtu_bytes: int, ipv6: bool) -> State:
    """What a worker's tunnel stands on; made once, for it is the same with every key."""
    return State(
        links=frozenset({Link(interface=name, kind=kind, alias=worker.alias, mtu_bytes=mtu_bytes)}),
        addresses=frozenset({Address(address=worker.placeholder)}),
        routes=frozenset(_routes(worker, name, ipv6)),
        rules=frozenset(_rules(worker, ipv6)),
        sysctls=frozenset(_sysctls(name, ipv6)),
    )


def device(fleet: Fleet, interface: str, held: Held | None) -> Device:
    """The device INTERFACE as HELD says."""
    if held is None:
        return Device(interface=interface)
    peer = Peer(
        public_key=held.key.server_public,
        preshared=held.key.preshared,
        keepalive_seconds=fleet.wireguard.keepalive_seconds,
        endpoint=held.endpoint,
    )
    return Device(interface=interface, private=held.key.private, peer=peer)


def _routes(worker: Worker, interface: str, ipv6: bool) -> Iterable[Route]:
    yield Route(family=4, table=worker.table, interface=interface, source=worker.placeholder)
    yield Route(family=4, table=worker.table, metric=LAST_METRIC)
    if ipv6:
        yield Route(family=6, table=worker.table, metric=LAST_METRIC)


def _rules(worker: Worker, ipv6: bool) -> Iterable[Rule]:
    """Lookup by UID and by placeholder source, and a prohibit behind each.

    The source rules hold what the kernel sends for a socket that is gone: it carries no UID.
    """
    yield Rule(family=4, priority=worker.table, uid=worker.uid, table=worker.table)
    yield Rule(family=4, priority=worker.table, source=worker.placeholder, table=worker.table)
    yield Rule(family=4, priority=worker.prohibit_priority, uid=worker.uid)
    yield Rule(family=4, priority=worker.prohibit_priority, source=worker.placeholder)
    if ipv6:
        yield Rule(family=6, priority=worker.table, uid=worker.uid, table=worker.table)
        yield Rule(family=6, priority=worker.prohibit_priority, uid=worker.uid)


def _sysctls(interface: str, ipv6: bool) -> Iterable[Sysctl]:
    yield rp_filter(interface, 0)
    if ipv6:
        yield disable_ipv6(interface)


def rp_filter(interface: str, value: int) -> Sysctl:
    """Reverse path filtering of INTERFACE, `all` or `default`."""
    return Sysctl(path=("net", "ipv4", "conf", interface, "rp_filter"), value=value)


def disable_ipv6(interface: str) -> Sysctl:
    """No link-local address when the link goes up: that would be an address event."""
    return Sysctl(path=("net", "ipv6", "conf", interface, "disable_ipv6"), value=1)


def slice_of(state: State, worker: Worker) -> State:
    """The part of STATE that is WORKER's; what all share is left out."""
    names, priorities = worker.interfaces, (worker.table, worker.prohibit_priority)
    return State(
        links=frozenset(one for one in state.links if one.interface in names or one.alias == worker.alias),
        addresses=frozenset(
            one for one in state.addresses if one.address == worker.placeholder or one.interface in names
        ),
        routes=frozenset(one for one in state.routes if one.table == worker.table),
        rules=frozenset(one for one in state.rules if one.priority in priorities),
        sysctls=frozenset(one for one in state.sysctls if one.path[3] in names),
        devices=frozenset(one for one in state.devices if one.interface in names),
        gates=frozenset(one for one in state.gates if one.uid == worker.uid),
    )


def of_nobody(state: State, fleet: Fleet) -> State:
    """The part of STATE inside our marks that is no worker's of FLEET: it had more workers, or others."""
    whole = replace(state, filters=frozenset(), sysctls=frozenset())
    for worker in fleet.members:
        whole = whole - slice_of(state, worker)
    return whole


def uses_spare(state: State, worker: Worker) -> bool:
    """Whether WORKER's table leads to the link of the spare name: an earlier netctl had to give the usual one up."""
    spare = worker.spare_interface
    used = any(one.interface == spare for one in state.routes)
    return used and any(one.interface == spare for one in state.links)


def without(state: State, interfaces: frozenset[str]) -> State:
    """STATE as if the links INTERFACES were not there: quarantined ones are nobody's to look at."""
    return replace(
        state,
        links=frozenset(one for one in state.links if one.interface not in interfaces),
        addresses=frozenset(one for one in state.addresses if one.interface not in interfaces),
        routes=frozenset(one for one in state.routes if one.interface not in interfaces),
        sysctls=frozenset(one for one in state.sysctls if one.path[3] not in interfaces),
        devices=frozenset(one for one in state.devices if one.interface not in interfaces),
    )
