"""Where a worker's packets can leave one network namespace, computed from a State alone: rules, routes, the table.

The model errs on the open side: if the kernel's answer depends on more than a State has, the packet passes.
It ignores what kernel WireGuard sends for a worker, already encrypted, which goes out by its mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from fleet.isolation import HOST as HOST_SPACE
from fleet.model import Worker
from netctl.plan.shortcut import Shortcut
from netctl.plan.state import State
from netctl.plan.things import Family, Route

HOST, HOST_V6 = IPv4Address("198.51.100.10"), IPv6Address("2001:db8:1::10")
"""The host's own addresses on its uplink."""
AnyAddress = IPv4Address | IPv6Address
MAIN, MAIN_PRIORITY = 254, 32766
UPLINKS = {MAIN: "eth0", 999: "eth1"}
"""Foreign tables, and the interface of their default route, in both families."""
_FAMILIES: tuple[Family, ...] = (4, 6)


@dataclass(frozen=True)
class ForeignRule:
    """A foreign rule: UIDS (None: all) look TABLE up."""

    priority: int
    uids: range | None
    table: int


World = tuple[ForeignRule, ...]
"""The foreign rules, which stay unchanged."""


@dataclass(frozen=True)
class Attempt:
    """A socket of UID (None: the kernel itself sends), bound to a source address or to a device, or to nothing."""

    uid: int | None
    source: AnyAddress | None = None
    bound: str | None = None
    family: Family = 4


@dataclass(frozen=True)
class Packet:
    """A packet on its way out."""

    interface: str
    source: AnyAddress
    family: Family = 4


@dataclass(frozen=True)
class Leak:
    """A way out that is not the worker's own tunnel."""

    uid: int
    attempt: Attempt
    interface: str


@cache
def _worker(uid: int) -> tuple[dict[Family, AnyAddress], frozenset[str]]:
    """A worker's placeholders by family, and its interfaces."""
    worker = Worker(uid=uid)
    return {4: worker.placeholder, 6: worker.placeholder_v6}, frozenset(worker.interfaces)


def _host(family: Family) -> AnyAddress:
    return HOST if family == 4 else HOST_V6


class Paths:
    """The ways out of SPACE, in one State and one World: only the host has uplinks and foreign rules."""

    def __init__(self, state: State, world: World = (), space: str = HOST_SPACE) -> None:
        self.state = state = state.at(space)
        self._uplinks = UPLINKS if space == HOST_SPACE else {}
        self._steps = {family: _steps(state, world if self._uplinks else (), family) for family in _FAMILIES}
        self._routes: dict[tuple[int, int], Route] = {}
        for route in sorted(state.routes, key=lambda one: one.metric):
            self._routes.setdefault((route.family, route.table), route)
        table = next(iter(state.filters), None)
        self._stands = table is not None and table.intact
        self._uids = table.uids if table is not None else frozenset[int]()
        workers = [_worker(uid) for uid in self._uids]
        self._placeholders = {placeholder for both, _ in workers for placeholder in both.values()}
        self._interfaces = {name for _, names in workers for name in names}
        self._open = {(gate.uid, gate.interface) for gate in state.gates}
        self._leased: dict[tuple[Family, str], AnyAddress] = {(4, gate.interface): gate.address for gate in state.gates}
        self._leased |= {(6, gate.interface): gate.address_v6 for gate in state.gates if gate.address_v6}
        self._open_source = {
            (_worker(gate.uid)[0][family], gate.interface)
            for gate in state.gates
            for family in _FAMILIES
            if (family, gate.interface) in self._leased
        }

    def leaving(self, attempt: Attempt) -> Packet | None:
        """The packet after translation; None if it is dropped."""
        packet = self.routed(attempt)
        return packet and self.filtered(packet, attempt.uid)

    def routed(self, attempt: Attempt) -> Packet | None:
        """The packet after rules and routes; None if they stop it."""
        source, family = attempt.source, attempt.family
        if attempt.bound is not None:
            # A socket bound to a device leaves there whatever the rules say: where no route is found the
            # kernel takes the destination to be on the link (ip_route_output_key_hash_rcu in net/ipv4/route.c).
            return Packet(attempt.bound, source or _host(family), family)
        steps, first = self._steps[family], 0
        for priority, selects, table, goto in steps:
            if priority < first or not selects(attempt):
                continue
            if goto is not None:
                first = goto if any(step[0] == goto for step in steps) else first  # an unresolved one is ignored
                continue
            if table is None:
                return None  # prohibit
            if table in self._uplinks:
                return Packet(self._uplinks[table], source or _host(family), family)
            if route := self._routes.get((family, table)):
                way, own = route.interface, source or route.source or _host(family)
                return Packet(way, own, family) if way else None
        return None

    def filtered(self, packet: Packet, uid: int | None) -> Packet | None:
        """PACKET after chains output, translate and last of `inet fleet` (netctl/filter/rules.py); None: dropped."""
        if not self._stands:
            return packet
        if not self._let_out(packet, uid):
            return None
        if packet.interface not in self._interfaces:
            return packet if packet.source not in self._placeholders else None
        leased = self._leased.get((packet.family, packet.interface))
        # Translated to the leased address; without one it keeps its source, and is dropped because of that.
        return None if leased is None else Packet(packet.interface, leased, packet.family)

    def _let_out(self, packet: Packet, uid: int | None) -> bool:
        """The chain output."""
        through = (packet.source, packet.interface)
        if uid in self._uids:
            opened = (uid, packet.interface) in self._open
            return opened and through in self._open_source
        if packet.source in self._placeholders:
            return uid is None and through in self._open_source
        return packet.interface not in self._interfaces

    # --- leaks

    def leaks(self, uid: int) -> frozenset[Leak]:
        """Every way out past routes and table together."""
        return self._found(uid, self.leaving, self._attempts(uid))

    def routing_leaks(self, uid: int) -> frozenset[Leak]:
        """Every way that rules and routes alone leave open.

        They do not stop a socket that is bound to a device, and send one bound to a neighbour's placeholder into
        the neighbour's tunnel: the table must stop both.
        """
        own = (None, HOST, HOST_V6, *_worker(uid)[0].values())
        tried = [one for one in self._attempts(uid) if one.bound is None and one.source in own]
        return self._found(uid, self.routed, tried)

    def table_leaks(self, uid: int) -> frozenset[Leak]:
        """Every way that the table alone leaves open, wherever routes lead."""
        devices = self._devices()

        def by_table(attempt: Attempt) -> Packet | None:
            way = attempt.bound or self._uplinks.get(MAIN)
            sent = Packet(way, attempt.source or _host(attempt.family), attempt.family) if way else None
            return sent and self.filtered(sent, attempt.uid)

        own = _worker(uid)[0].items()
        kernels = (Attempt(None, source, name, family) for name in devices for family, source in own)
        return self._found(uid, by_table, [*self._attempts(uid), *kernels])

    def _devices(self) -> list[str]:
        return [*self._uplinks.values(), *sorted(one.interface for one in self.state.links if one.up)]

    def _attempts(self, uid: int) -> Iterator[Attempt]:
        """Everything a worker can do without privilege, and what the kernel sends on its behalf."""
        # Whether or not the placeholder exists: a way counts the same before and after it is added.
        for family in _FAMILIES:
            placeholders = (_worker(one)[0][family] for one in (uid - 1, uid, uid + 1))
            for source in (None, _host(family), *placeholders):
                for bound in (None, *self._devices()):
                    yield Attempt(uid, source, bound, family)
            yield Attempt(None, _worker(uid)[0][family], None, family)

    def _found(
        self, uid: int, way: Callable[[Attempt], Packet | None], attempts: Iterator[Attempt] | list[Attempt]
    ) -> frozenset[Leak]:
        own = _worker(uid)[1]
        sent = ((attempt, way(attempt)) for attempt in attempts)
        return frozenset(
            Leak(uid, one, packet.interface) for one, packet in sent if packet and packet.interface not in own
        )


_Step = tuple[int, Callable[[Attempt], bool], "int | None", "int | None"]


def _steps(state: State, world: World, family: Family) -> list[_Step]:
    """The rules of a family in the kernel's order: priority, whom it selects, the table (None: prohibit), or the
    priority to go on at (0: at the next)."""
    steps: list[_Step] = [(MAIN_PRIORITY, lambda _: True, MAIN, None)]
    steps += [(one.priority, _selects(one.uids, None), one.table, None) for one in world]
    steps += [(one.priority, _skips(one), None, one.goto or 0) for one in state.shortcuts if one.family == family]
    for rule in state.rules:
        if rule.family == family:
            uids = None if rule.uid is None else range(rule.uid, rule.uid + 1)
            steps.append((rule.priority, _selects(uids, rule.source), rule.table, None))
    return sorted(steps, key=lambda step: step[0])


def _selects(uids: range | None, source: AnyAddress | None) -> Callable[[Attempt], bool]:
    """Whether an attempt has one of UIDS and SOURCE; None matches everything."""
    return lambda one: (uids is None or one.uid in uids) and (source is None or one.source == source)


def _skips(rule: Shortcut) -> Callable[[Attempt], bool]:
    """Whether a shortcut rule selects an attempt; the kernel's own packets have the UID 0."""
    first, last = rule.but_uids or (1, 0)
    return lambda one: (
        not first <= (one.uid or 0) <= last and (rule.source is None or (one.source or HOST) in rule.source)
    )


def relevant(state: State) -> State:
    """STATE without the things that no path depends on."""
    return replace(state, sysctls=frozenset(), devices=frozenset())
