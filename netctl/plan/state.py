"""What the kernel should hold, as frozen values: a pure function of the fleet and its leases.

Every value is one object of the kernel that netctl owns; equality is "nothing to do". The plan
compares two States, the kernel side observes one and applies operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from fleet.isolation import HOST
from fleet.model import PROTOCOL, Worker
from netctl.plan.secrets import Secret

TABLE, OWNED_TABLE = "fleet", "fleet_hold"
"""The nftables tables of netctl, family inet: the one with the gates, and the one that only its owner can change."""
Family = Literal[4, 6]
Stack = Literal["absent", "off", "on"]
"""What the kernel has of IPv6: nothing, all but addresses (net.ipv6.conf.all.disable_ipv6), or all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Placed:
    """Everything lies in a network namespace: the host's (""), or the one of that name."""

    space: str = HOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Space(Placed):
    """The namespace of that name itself. Root makes and removes it; netctl only enters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Placed):
    """A worker's interface, made by netctl or by the program that is its device, as the backend of its kind says."""

    interface: str
    kind: str
    """As `ip -details link` shows it."""
    alias: str
    mtu_bytes: int
    up: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(Placed):
    """A placeholder, on `lo` or, in a space, on the interface; also what somebody else has put on an interface."""

    address: IPv4Address | IPv6Address
    interface: str = "lo"
    prefix: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Placed):
    """A default route of a worker's table: through its interface, or `unreachable` behind everything."""

    family: Family
    table: int
    interface: str | None = None
    """None: unreachable."""
    source: IPv4Address | IPv6Address | None = None
    metric: int = 0
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's own words for one that has more to it: none of ours, and deleted by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Placed):
    """A policy rule that selects by UID or by placeholder source, and looks a table up or prohibits."""

    family: Family
    priority: int
    uid: int | None = None
    source: IPv4Address | IPv6Address | None = None
    table: int | None = None
    """None: prohibit."""
    protocol: int = PROTOCOL
    listed: bytes = field(default=b"", repr=False)
    """The kernel's own words for one that has more to it: none of ours, and deleted by them."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Sysctl(Placed):
    """One file below /proc/sys; a tuple, because interface names may hold dots."""

    path: tuple[str, ...]
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The VPN server as a device knows it; everything is allowed through it."""

    public_key: str
    preshared: Secret | None
    keepalive_seconds: int
    ipv6: bool = False
    """Whether IPv6 is allowed through it too."""
    # The kernel follows a server that answers from elsewhere: a moved endpoint is no difference.
    endpoint: tuple[str, int] = field(compare=False)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Its allowed networks."""
        return ("0.0.0.0/0", "::/0") if self.ipv6 else ("0.0.0.0/0",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Placed):
    """A WireGuard device's key and its one peer; both None: sealed."""

    interface: str
    private: Secret | None = None
    peer: Peer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate(Placed):
    """An opening in the nftables table: this worker may leave, as ADDRESS, through its own interface."""

    uid: int
    address: IPv4Address
    address_v6: IPv6Address | None = None
    """None: closed for IPv6."""
    interface: str

    @property
    def worker(self) -> Worker:
        return Worker(uid=self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Placed):
    """The table `inet fleet` without its gates: who is held back, and what of names and of what is near is open."""

    uids: frozenset[int]
    resolvers: frozenset[IPv4Address | IPv6Address]
    reachable: frozenset[IPv4Network | IPv6Network] = frozenset()
    """Private networks that may be reached through the tunnel; none overlaps another."""
    loopback_ports: frozenset[int] = frozenset()
    """TCP ports of the loopback interface that every worker may connect to."""
    intact: bool = True
    """False when observed chains or rules are not what this program writes."""


Thing = Space | Link | Address | Route | Rule | Sysctl | Device | Gate | Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of it, or one worker's slice."""

    spaces: frozenset[Space] = frozenset()
    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    devices: frozenset[Device] = frozenset()
    gates: frozenset[Gate] = frozenset()
    filters: frozenset[Filter] = frozenset()
    """None or one in each namespace; a set like the others, so that the plan needs no special case."""

    def __or__(self, other: State) -> State:
        return State(**{part.name: getattr(self, part.name) | getattr(other, part.name) for part in fields(State)})

    def __sub__(self, other: State) -> State:
        return State(**{part.name: getattr(self, part.name) - getattr(other, part.name) for part in fields(State)})
