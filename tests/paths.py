"""Where a worker's packets can leave, worked out from a State alone: rules, routes, then the table.

A model on the open side: where the kernel's answer depends on more than a State says, the packet passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from fleet.model import Worker
from netctl.state import Family, Filter, State

HOST = IPv4Address("198.51.100.10")
"""The host's own address on its uplink."""
MAIN, MAIN_PRIORITY = 254, 32766
UPLINKS = {MAIN: "eth0", 999: "eth1"}
"""Tables that are not ours, and where their default route leads, in both families."""


@dataclass(frozen=True)
class ForeignRule:
    """A rule of somebody else: UIDS (None: all) look TABLE up."""

    priority: int
    uids: range | None
    table: int


@dataclass(frozen=True)
class World:
    """What is not ours and stays as it is."""

    rules: tuple[ForeignRule, ...] = ()


@dataclass(frozen=True)
class Packet:
    """A packet on its way out, behind translation."""

    interface: str
    source: IPv4Address
    family: Family = 4


def leaving(
    state: State,
    world: World,
    *,
    uid: int | None,
    source: IPv4Address | None = None,
    bound: str | None = None,
    family: Family = 4,
) -> Packet | None:
    """The packet of a socket of UID (None: the kernel's own), bound to SOURCE or to a device; None: held back."""
    found = routed(state, world, uid=uid, source=source, bound=bound, family=family)
    if found is None:
        return None
    return filtered(state, found, uid=uid)


def routed(
    state: State, world: World, *, uid: int | None, source: IPv4Address | None, bound: str | None, family: Family
) -> Packet | None:
    """What rules and routes make of it."""
    if bound is not None:
        # A socket bound to a device leaves there whatever the rules say: where no route is found the
        # kernel takes the destination to be on the link (ip_route_output_key_hash_rcu in net/ipv4/route.c).
        return Packet(bound, source or HOST, family)
    steps: list[tuple[int, int | None]] = [(MAIN_PRIORITY, MAIN)]
    steps += [(one.priority, one.table) for one in world.rules if one.uids is None or uid in one.uids]
    for rule in state.rules:
        of_uid = rule.uid is not None and rule.uid == uid
        of_source = rule.source is not None and rule.source == source
        of_all = rule.uid is None and rule.source is None
        if rule.family == family and (of_uid or of_source or of_all):
            steps.append((rule.priority, rule.table))
    for _, table in sorted(steps, key=lambda step: step[0]):
        if table is None:
            return None  # prohibit
        if table in UPLINKS:
            return Packet(UPLINKS[table], source or HOST, family)
        routes = [one for one in state.routes if one.table == table and one.family == family]
        if routes:
            best = min(routes, key=lambda one: one.metric)
            return None if best.interface is None else Packet(best.interface, source or best.source or HOST, family)
    return None


def filtered(state: State, packet: Packet, *, uid: int | None) -> Packet | None:
    """What the chains output, translate and last of `inet fleet` make of it (netctl/ruleset.py)."""
    table = next(iter(state.filters), None)
    if table is None or not table.intact:
        return packet
    if not _let_out(state, table, packet, uid):
        return None
    if packet.interface not in _interfaces(table):
        return packet if packet.source not in _placeholders(table) else None
    leased = {gate.interface: gate.address for gate in state.gates}.get(packet.interface)
    # Translated to the leased address; without one it stays what it was, and is dropped for that.
    return None if packet.family == 6 or leased is None else Packet(packet.interface, leased)


def _placeholders(table: Filter) -> set[IPv4Address]:
    return {Worker(uid=uid).placeholder for uid in table.uids}


def _interfaces(table: Filter) -> set[str]:
    return {name for uid in table.uids for name in Worker(uid=uid).interfaces}


def _let_out(state: State, table: Filter, packet: Packet, uid: int | None) -> bool:
    """The chain output."""
    through = (packet.source, packet.interface)
    if uid in table.uids:
        opened = (uid, packet.interface) in {(gate.uid, gate.interface) for gate in state.gates}
        return packet.family == 4 and opened and through in _open_sources(state)
    if packet.source in _placeholders(table):
        return uid is None and through in _open_sources(state)
    return packet.interface not in _interfaces(table)


def _open_sources(state: State) -> set[tuple[IPv4Address, str]]:
    return {(gate.worker.placeholder, gate.interface) for gate in state.gates}


@dataclass(frozen=True)
class Leak:
    """A way out that is not the worker's own tunnel."""

    uid: int
    how: str
    interface: str


def attempts(state: State, uid: int) -> Iterator[dict[str, object]]:
    """Everything a worker can do without privilege, and what the kernel sends on its behalf."""
    sources = [None, HOST, *sorted(one.address for one in state.addresses)]
    devices = [None, *sorted(UPLINKS.values()), *sorted(one.interface for one in state.links if one.up)]
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        for source in sources:
            for bound in devices:
                yield {"uid": uid, "source": source, "bound": bound, "family": family}
    yield {"uid": None, "source": Worker(uid=uid).placeholder, "bound": None, "family": 4}


def leaks(state: State, world: World, uid: int) -> frozenset[Leak]:
    """Every way past routes and table together."""
    return _found(uid, ((one, leaving(state, world, **one)) for one in attempts(state, uid)))  # type: ignore[arg-type]


def routing_leaks(state: State, world: World, uid: int) -> frozenset[Leak]:
    """Every way that rules and routes alone leave open; they do not hold a socket that is bound to a device."""
    tried = (one for one in attempts(state, uid) if one["bound"] is None)
    return _found(uid, ((one, routed(state, world, **one)) for one in tried))  # type: ignore[arg-type]


def table_leaks(state: State, uid: int) -> frozenset[Leak]:
    """Every way that the table alone leaves open."""
    nowhere = World(rules=(ForeignRule(priority=0, uids=None, table=MAIN),))
    return leaks(state, nowhere, uid)


def _found(uid: int, results: Iterator[tuple[dict[str, object], Packet | None]]) -> frozenset[Leak]:
    own = {*Worker(uid=uid).interfaces, "lo"}
    return frozenset(
        Leak(uid, f"IPv{one['family']} from {one['source']} over {one['bound']} as {one['uid']}", sent.interface)
        for one, sent in results
        if sent is not None and sent.interface not in own
    )
