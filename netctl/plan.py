"""What to do, as a pure function: diff(desired, observed) -> operations in a safe order.

Block before open, add before delete: a gate that changes, or whose device, link or route changes, is
sealed first and opened last, so that no prefix of a plan lets anything out that neither State did.
Operations print themselves as the command an administrator would type; keys are never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Literal

from fleet.model import PROTOCOL
from netctl.state import Address, Device, Filter, Gate, Link, Route, Rule, State, Sysctl, Thing, rp_filter

LAST_PRIORITY = 2**32
"""Behind every rule: a table that no rule looks up."""
Verb = Literal["add", "set", "up", "delete", "open", "seal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change of the kernel."""

    verb: Verb
    thing: Thing

    def __str__(self) -> str:
        return _describe(self.thing, self.verb)


def diff(desired: State, observed: State) -> tuple[Operation, ...]:
    """The operations that turn OBSERVED into DESIRED; empty when they are equal."""
    present = _trim(desired, observed)
    strange = frozenset(one for one in observed.addresses - present.addresses if one.interface != "lo")
    return tuple(_order(present, _behind(strange, present, observed), strange))


def _behind(strange: frozenset[Address], desired: State, observed: State) -> State:
    """OBSERVED behind the deletion of the addresses that somebody has put on our links.

    With a link's last IPv4 address the kernel takes its routes as well, and tells nobody (fib_disable_ip in
    net/ipv4/fib_frontend.c).
    """
    if not strange:
        return observed
    emptied = {one.interface for one in strange}
    return replace(
        observed,
        addresses=observed.addresses - strange,
        routes=frozenset(
            route for route in observed.routes if route.interface not in emptied or route not in desired.routes
        ),
    )


def _trim(desired: State, observed: State) -> State:
    """DESIRED without what hangs on a tun that wireguard-go has not made yet: we cannot make it."""
    there = {link.interface for link in observed.links}
    missing = {link.interface for link in desired.links if link.kind == "tun"} - there
    if not missing:
        return desired
    return State(
        links=frozenset(link for link in desired.links if link.interface not in missing),
        addresses=desired.addresses,
        routes=frozenset(route for route in desired.routes if route.interface not in missing),
        rules=desired.rules,
        sysctls=frozenset(one for one in desired.sysctls if not missing & set(one.path)),
        devices=frozenset(device for device in desired.devices if device.interface not in missing),
        gates=frozenset(gate for gate in desired.gates if gate.interface not in missing),
        filters=desired.filters,
    )


def _order(desired: State, observed: State, strange: frozenset[Address]) -> Iterator[Operation]:
    kept = _kept_gates(desired, observed)
    fresh_filter = desired.filters - observed.filters
    # A table made anew has no gate open; the old one may lack the very sets a seal would change.
    yield from _each("seal", () if fresh_filter else observed.gates - kept)
    yield from _each("add", fresh_filter)
    yield from _each("delete", strange)
    new_rules = desired.rules - observed.rules
    yield from _each("add", (rule for rule in new_rules if rule.table is None))
    new_routes = desired.routes - observed.routes
    yield from _each("add", (route for route in new_routes if route.interface is None))
    # What leads astray goes before anything leads on: behind it stand the prohibits and the unreachables just
    # added. A table has one route of each metric, so the old one also has to make room.
    yield from _astray(desired, observed)
    yield from _each("add", desired.addresses - observed.addresses)
    yield from _each("add", (rule for rule in new_rules if rule.table is not None))
    yield from _links(desired, observed)
    yield from _each("add", (route for route in new_routes if route.interface is not None))
    yield from _each("set", desired.devices - observed.devices)
    yield from _deletes(desired, observed)
    yield from _each("open", desired.gates - kept)
    if not desired.filters:
        yield from _each("delete", observed.filters)


def _astray(desired: State, observed: State) -> Iterator[Operation]:
    """Lookups and routes that lead somewhere else go, the last that a packet would meet first.

    Whatever goes uncovers what stands behind it, and that has gone by then.
    """
    first: dict[int, int] = {}
    for rule in observed.rules:
        if rule.table is not None:
            first[rule.table] = min(rule.priority, first.get(rule.table, rule.priority))
    found: list[tuple[int, int, Thing]] = [
        (rule.priority, 0, rule) for rule in observed.rules - desired.rules if rule.table is not None
    ]
    found += [
        (first.get(route.table, LAST_PRIORITY), route.metric, route)
        for route in observed.routes - desired.routes
        if route.interface is not None
    ]
    operations = [(place, metric, Operation(verb="delete", thing=thing)) for place, metric, thing in found]
    yield from (last for *_, last in sorted(operations, key=lambda one: (-one[0], -one[1], str(one[2]))))


def _kept_gates(desired: State, observed: State) -> frozenset[Gate]:
    """Gates that stay open throughout: nothing below them changes."""
    changed = {device.interface for device in desired.devices ^ observed.devices}
    changed |= {link.interface for link in desired.links ^ observed.links}
    changed |= {route.interface for route in desired.routes ^ observed.routes if route.interface is not None}
    if desired.filters - observed.filters:
        return frozenset()  # the table is made anew; its gates open at the end
    return frozenset(gate for gate in desired.gates & observed.gates if gate.interface not in changed)


def _links(desired: State, observed: State) -> Iterator[Operation]:
    seen = {link.interface: link for link in observed.links}
    fresh = list(desired.links - observed.links)
    sysctls = desired.sysctls - observed.sysctls
    own = {link.interface for link in desired.links}
    yield from _each("set", _preserved(desired, observed))
    yield from _each("set", (one for one in sysctls if not own & set(one.path)))
    yield from _each("add", (link for link in fresh if link.interface not in seen))
    yield from _each("set", fresh)
    # Before the link goes up: IPv6 would give it a link-local address, an event Chrome hears.
    yield from _each("set", (one for one in sysctls if own & set(one.path)))
    yield from _each("up", (link for link in fresh if not (link.interface in seen and seen[link.interface].up)))


def _preserved(desired: State, observed: State) -> Iterator[Sysctl]:
    """Before `all` is lowered, its old value goes to every other interface and to `default`.

    The kernel uses max(all, interface), so nothing else is filtered less than before.
    """
    if rp_filter("all", 0) not in desired.sysctls:
        return
    values = {one.path: one.value for one in observed.sysctls if one.path[-1] == "rp_filter"}
    old = values.pop(rp_filter("all", 0).path, 0)
    ours = {one.path for one in desired.sysctls}
    for path, value in values.items():
        if path not in ours and value < old:
            yield Sysctl(path=path, value=old)


def _deletes(desired: State, observed: State) -> Iterator[Operation]:
    old_routes = observed.routes - desired.routes
    old_prohibits = (rule for rule in observed.rules - desired.rules if rule.table is None)
    wanted = {link.interface for link in desired.links}
    # A device that goes with its link needs no seal of its own.
    yield from _each("delete", (link for link in observed.links if link.interface not in wanted))
    yield from _each("delete", old_prohibits)
    yield from _each("delete", (route for route in old_routes if route.interface is None))
    yield from _each("delete", observed.addresses - desired.addresses)


def _each(verb: Verb, things: Iterable[Thing]) -> Iterator[Operation]:
    # Sorted by their text: the same plan reads the same every time.
    yield from sorted((Operation(verb=verb, thing=thing) for thing in things), key=str)


@singledispatch
def _describe(thing: Thing, verb: Verb) -> str:
    raise TypeError(f"{verb} {thing!r}")


@_describe.register
def _(thing: Link, verb: Verb) -> str:
    if verb == "add":
        return f"ip link add {thing.interface} type {thing.kind}"
    if verb == "delete":
        return f"ip link delete {thing.interface}"
    if verb == "up":
        return f"ip link set {thing.interface} up"
    return f"ip link set {thing.interface} alias {thing.alias} mtu {thing.mtu_bytes}"


@_describe.register
def _(thing: Address, verb: Verb) -> str:
    return f"ip address {verb} {thing.address}/{thing.prefix} dev {thing.interface}"


@_describe.register
def _(thing: Route, verb: Verb) -> str:
    kind = "unreachable default" if thing.interface is None else f"default dev {thing.interface}"
    source = f" src {thing.source}" if thing.source else ""
    metric = f" metric {thing.metric}" if thing.metric else ""
    route = f"ip -{thing.family} route {verb} {kind} table {thing.table}"
    return f"{route}{source}{metric} proto {thing.protocol}{_more(thing)}"


@_describe.register
def _(thing: Rule, verb: Verb) -> str:
    who = f"from {thing.source}" if thing.source else f"uidrange {thing.uid}-{thing.uid}"
    what = "prohibit" if thing.table is None else f"lookup {thing.table}"
    return f"ip -{thing.family} rule {verb} {who} {what} priority {thing.priority} protocol {PROTOCOL}{_more(thing)}"


def _more(thing: Route | Rule) -> str:
    return " # the one that has more to it" if thing.listed else ""


@_describe.register
def _(thing: Sysctl, _verb: Verb) -> str:
    return f"sysctl -w {'/'.join(thing.path)}={thing.value}"


@_describe.register
def _(thing: Device, _verb: Verb) -> str:
    if thing.peer is None:
        return f"wg set {thing.interface} private-key /dev/null # and every peer removed"
    host, port = thing.peer.endpoint
    host = f"[{host}]" if ":" in host else host
    return (
        f"wg set {thing.interface} private-key (hidden) peer {thing.peer.public_key} endpoint {host}:{port}"
        f" persistent-keepalive {thing.peer.keepalive_seconds} allowed-ips 0.0.0.0/0"
    )


@_describe.register
def _(thing: Gate, verb: Verb) -> str:
    action = "add" if verb == "open" else "delete"
    return (
        f'nft {action} element inet fleet open {{ {thing.uid} . "{thing.interface}" }}'
        f' # and translation {{ "{thing.interface}" : {thing.address} }}'
    )


@_describe.register
def _(thing: Filter, verb: Verb) -> str:
    if verb == "delete":
        return "nft delete table inet fleet"
    return f"nft -f - # table inet fleet: {len(thing.uids)} workers held back"
