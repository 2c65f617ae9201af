"""The kinds of kernel object that netctl owns, as frozen values: one class for each kind.

A value has everything that is known about the object outside the kernel. Equal values mean "nothing to do". A value
prints its changes as commands, and knows its marks, the link that it belongs to, and how its changes are applied.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import ClassVar, Literal

from fleet.isolation import HOST
from fleet.model import PROTOCOL, Worker
from netctl.plan.key import Endpoint, Secret

TABLE, OWNED_TABLE = "fleet", "fleet_hold"
"""The nftables tables of netctl, family inet: the one with the gates, and the one that only its owner can change."""
Family = Literal[4, 6]
Stack = Literal["absent", "off", "on"]
"""IPv6 in the kernel: none, all but addresses (net.ipv6.conf.all.disable_ipv6), or all of it."""
Verb = Literal["add", "set", "move", "up", "delete", "open", "seal"]
Way = Literal["space", "routing", "removal", "device", "gate", "table"]
"""How a change is applied to the kernel: see netctl.host."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Thing:
    """One kernel object, in the network namespace `space`: the host's (""), or the one with that name."""

    space: str = HOST

    part: ClassVar[str]
    """The field of a State that has this kind."""
    marked_by: ClassVar[tuple[str, ...]] = ()
    """The fields that show which worker it belongs to in the host's namespace."""
    way: ClassVar[Way] = "routing"
    """How it is changed."""
    way_out: ClassVar[Way | None] = None
    """How it is deleted, if not in the same way."""

    def describe(self, verb: Verb) -> str:
        """The command that an administrator would type for VERB in its namespace; keys are never shown."""
        raise NotImplementedError

    def place(self, verb: Verb) -> str:
        """The namespace in which VERB is done."""
        return self.space

    @property
    def marks(self) -> tuple[Hashable, ...]:
        """Its worker's marks: the worker's namespace, or in the host's namespace any of these; see marks_of()."""
        return tuple(getattr(self, name) for name in self.marked_by) if self.space == HOST else (self.space,)

    @property
    def on(self) -> str | None:
        """The name of the link that it belongs to, or that it is."""
        return getattr(self, "interface", None)


def marks_of(worker: Worker) -> frozenset[Hashable]:
    """All marks of WORKER: names, numbers and addresses; marks of two kinds are never equal."""
    numbers = worker.uid, worker.table, worker.prohibit_priority
    return frozenset({*worker.interfaces, worker.alias, worker.space, *worker.placeholders, *numbers})


@dataclass(frozen=True, slots=True, kw_only=True)
class Space(Thing):
    """The namespace itself. Root makes and removes it; netctl only enters it."""

    part, way = "spaces", "space"

    def describe(self, verb: Verb) -> str:
        return f"ip netns {verb} {self.space}"

    def place(self, verb: Verb) -> str:
        return HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Thing):
    """A worker's interface, made by netctl or by the program that is its device, depending on the backend."""

    part = "links"
    marked_by = ("interface", "alias")
    way_out = "removal"

    interface: str
    kind: str
    """As `ip -details link` shows it."""
    alias: str
    mtu_bytes: int
    up: bool = True

    def describe(self, verb: Verb) -> str:
        texts = {
            "add": f"ip link add {self.interface} type {self.kind}",
            "delete": f"ip link delete {self.interface}",
            "up": f"ip link set {self.interface} up",
            "move": f"ip link set {self.interface} netns {self.space}",
            "set": f"ip link set {self.interface} alias {self.alias} mtu {self.mtu_bytes}",
        }
        return texts[verb]

    def place(self, verb: Verb) -> str:
        return HOST if verb == "move" else self.space


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(Thing):
    """A placeholder, on `lo` or in a namespace on the interface; its loopback; or what another program has added."""

    part = "addresses"
    marked_by = ("address", "interface")

    address: IPv4Address | IPv6Address
    interface: str = "lo"
    prefix: int = 32

    def describe(self, verb: Verb) -> str:
        more = " # and its route in table local" if verb == "add" else ""
        return f"ip address {verb} {self.address}/{self.prefix} dev {self.interface}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Thing):
    """A default route of a worker's table: through its interface, or `unreachable` with the lowest priority."""

    part = "routes"
    marked_by = ("table",)

    family: Family
    table: int
    interface: str | None = None
    """None: unreachable."""
    source: IPv4Address | IPv6Address | None = None
    metric: int = 0
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's message for a route with attributes that netctl never sets; the deletion repeats it."""

    def describe(self, verb: Verb) -> str:
        kind = "unreachable default" if self.interface is None else f"default dev {self.interface}"
        source = f" src {self.source}" if self.source else ""
        metric = f" metric {self.metric}" if self.metric else ""
        route = f"ip -{self.family} route {verb} {kind} table {self.table}"
        return f"{route}{source}{metric} proto {self.protocol}{_more(self.listed)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Thing):
    """A policy rule by UID or placeholder source that looks up a table or prohibits; in a namespace also `local`'s."""

    part = "rules"
    marked_by = ("priority",)

    family: Family
    priority: int
    uid: int | None = None
    source: IPv4Address | IPv6Address | None = None
    table: int | None = None
    """None: prohibit."""
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's message for a rule with attributes that netctl never sets; the deletion repeats it."""

    def describe(self, verb: Verb) -> str:
        who = f"from {self.source or 'all'}" if self.uid is None else f"uidrange {self.uid}-{self.uid}"
        what = "prohibit" if self.table is None else f"lookup {self.table}"
        rule = f"ip -{self.family} rule {verb} {who} {what}"
        return f"{rule} priority {self.priority} protocol {self.protocol}{_more(self.listed)}"


def _more(listed: bytes) -> str:
    return " # has attributes that netctl never sets" if listed else ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sysctl(Thing):
    """One file below /proc/sys/net/*/conf; a tuple, because interface names may hold dots."""

    part = "sysctls"
    marked_by = ("on",)

    path: tuple[str, ...]
    value: int

    def describe(self, verb: Verb) -> str:
        return f"sysctl -w {'/'.join(self.path)}={self.value}"

    @property
    def on(self) -> str:
        return self.path[3]

    @property
    def file(self) -> Path:
        """Its file; it shows the namespace of the calling thread."""
        return Path("/proc/sys", *self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The VPN server as a device's peer. It has no allowed ips before it is `open`; then all of IPv4, and with `ipv6`
    all of IPv6."""

    public_key: str
    preshared: Secret | None
    keepalive_seconds: int
    ipv6: bool = False
    """Never without `open`."""
    open: bool = True
    # The kernel follows a server that answers from another address, so a changed endpoint is no difference.
    endpoint: Endpoint = field(compare=False)

    @property
    def allowed(self) -> tuple[str, ...]:
        return (*["0.0.0.0/0"] * self.open, *["::/0"] * self.ipv6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Thing):
    """A WireGuard device's key and its one peer; both None: sealed."""

    part, way = "devices", "device"
    marked_by = ("interface",)

    interface: str
    private: Secret | None = None
    peer: Peer | None = None

    def describe(self, verb: Verb) -> str:
        if self.peer is None:
            return f"wg set {self.interface} private-key /dev/null # and every peer removed"
        return (
            f"wg set {self.interface} private-key (hidden) peer {self._peer_name} endpoint {self.peer.endpoint}"
            f" persistent-keepalive {self.peer.keepalive_seconds}"
            f" allowed-ips {','.join(self.peer.allowed) or repr('')}"
        )

    @property
    def _peer_name(self) -> str:
        """The server's public key; hidden if it is the private or preshared key, put there by mistake in the file."""
        assert self.peer is not None
        told = Secret.parse_private(self.peer.public_key)
        return "(hidden)" if told in (self.private, self.peer.preshared) else self.peer.public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Thing):
    """An opening in the nftables table: this worker may send, as ADDRESS, through its own interface."""

    part, way = "gates", "gate"
    marked_by = ("uid",)

    uid: int
    address: IPv4Address
    address_v6: IPv6Address | None = None
    """None: closed for IPv6."""
    interface: str
    zone: int = 0
    """The zone in which only this lease's connections are tracked; 0: the default zone."""

    @property
    def worker(self) -> Worker:
        return Worker(uid=self.uid)

    def describe(self, verb: Verb) -> str:
        action = "add" if verb == "open" else "delete"
        return (
            f'nft {action} element inet {TABLE} open {{ {self.uid} . "{self.interface}" }}'
            f' # and translation {{ "{self.interface}" : {self.address} }}'
            + (f', translation6 {{ "{self.interface}" : {self.address_v6} }}' if self.address_v6 else "")
            + (f', zones {{ "{self.interface}" : {self.zone} }}' if self.zone else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Thing):
    """The table `inet fleet` without its gates: the workers it blocks, and the resolvers, networks, ports it allows."""

    part, way = "filters", "table"

    uids: frozenset[int]
    resolvers: frozenset[IPv4Address | IPv6Address]
    reachable: frozenset[IPv4Network | IPv6Network] = frozenset()
    """Private networks that may be reached through the tunnel; they do not overlap."""
    loopback_ports: frozenset[int] = frozenset()
    """TCP ports of the loopback interface that every worker may connect to."""
    marked: bool = False
    """UDP with OUTER_MARK passes: the kernel's WireGuard sends its packets under the UID of the worker."""
    intact: bool = True
    """False when observed chains, sets or rules are not as this program writes them."""

    def describe(self, verb: Verb) -> str:
        if verb == "delete":
            return f"nft delete table inet {TABLE}"
        return f"nft -f - # table inet {TABLE}: {len(self.uids)} workers held back"
