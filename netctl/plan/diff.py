"""Makes the plan, as a pure function: diff(desired, observed) -> operations in a safe order.

Block before open, add before delete: a gate that changes, or whose device, link or route changes, is sealed first and
opened last. So wherever a plan stops, it lets out no packet that both States would block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fleet.backends import makes_links
from fleet.isolation import HOST
from netctl.plan.desired import rp_filter
from netctl.plan.shortcut import Shortcut
from netctl.plan.state import State
from netctl.plan.things import Address, Device, Gate, Link, Route, Space, Sysctl, Thing, Verb, Way

LAST_PRIORITY = 2**32
"""A number after every priority, for a table that no rule looks up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change of the kernel; its text is the command that an administrator would type for it."""

    verb: Verb
    thing: Thing

    def __str__(self) -> str:
        text, space = self.thing.describe(self.verb), self.space
        if space == HOST:
            return text
        return f"ip -n {space}{text[2:]}" if text.startswith("ip ") else f"ip netns exec {space} {text}"

    @property
    def space(self) -> str:
        """The namespace in which it is done: to make a namespace, or to move a link there, the host's."""
        return self.thing.place(self.verb)

    @property
    def way(self) -> Way:
        return (self.verb == "delete" and self.thing.way_out) or self.thing.way


def diff(desired: State, observed: State) -> tuple[Operation, ...]:
    """The operations that turn OBSERVED into DESIRED; empty when they are equal."""
    present = _trim(desired, observed)
    observed = _doomed(present, observed)
    strange = frozenset(one for one in observed.addresses - present.addresses if one.interface != "lo")
    return tuple(_order(present, _after_deletion(strange, present, observed), strange))


def _doomed(desired: State, observed: State) -> State:
    """OBSERVED without the objects that end with removed namespaces, but with their links and gates: a process may
    still be in there."""
    going = {one.space for one in observed.spaces - desired.spaces}
    if not going:
        return observed
    return observed.keep(lambda one: one.space not in going or isinstance(one, Space | Link | Gate))


def _after_deletion(strange: frozenset[Address], desired: State, observed: State) -> State:
    """OBSERVED as it is once the STRANGE addresses on netctl's links are deleted.

    With a link's last IPv4 address the kernel also deletes its routes, without a notification (fib_disable_ip
    in net/ipv4/fib_frontend.c).
    """
    if not strange:
        return observed
    emptied = {_place(one) for one in strange}
    return replace(
        observed,
        addresses=observed.addresses - strange,
        routes=frozenset(
            route for route in observed.routes if _place(route) not in emptied or route not in desired.routes
        ),
    )


def _place(one: Link | Address | Route) -> tuple[str, str | None]:
    return one.space, one.interface


def _trim(desired: State, observed: State) -> State:
    """DESIRED without the objects on a link that its program has not made yet: netctl cannot make that link."""
    there = {_place(link) for link in observed.links}
    awaited = [link for link in desired.links if not makes_links(link.kind)]
    # A program makes its link in the host; from there it is moved.
    missing = {link.interface for link in awaited if not {_place(link), (HOST, link.interface)} & there}
    return desired.keep(lambda one: one.on not in missing) if missing else desired


def _order(desired: State, observed: State, strange: frozenset[Address]) -> Iterator[Operation]:
    kept = _kept_gates(desired, observed)
    fresh_filters = desired.filters - observed.filters
    fresh = {one.space for one in fresh_filters}
    # A new table has no open gates, and the old one may lack the sets that a seal would change.
    yield from _each("seal", (gate for gate in observed.gates - kept if gate.space not in fresh))
    yield from _each("add", desired.spaces - observed.spaces)
    yield from _each("add", fresh_filters)
    yield from _each("delete", strange)
    wrong = observed.shortcuts - desired.shortcuts
    yield from _shortcuts("delete", wrong)
    new_rules = desired.rules - observed.rules
    yield from _each("add", (rule for rule in new_rules if rule.table is None))
    new_routes = desired.routes - observed.routes
    yield from _each("add", (route for route in new_routes if route.interface is None))
    # Delete wrong lookups and routes before new ones are added: the prohibit rules and unreachable routes just added
    # catch the packets. A table has one route of each metric, so an old route must also go before the new one.
    yield from _astray(desired, observed)
    new_addresses = desired.addresses - observed.addresses
    yield from _each("add", (one for one in new_addresses if one.interface == "lo"))
    yield from _each("add", (rule for rule in new_rules if rule.table is not None))
    # The kernel may delete the right one with a wrong one of its priority.
    places = {(one.family, one.priority) for one in wrong}
    right = frozenset(one for one in observed.shortcuts if (one.family, one.priority) not in places)
    yield from _shortcuts("add", desired.shortcuts - right)
    yield from _links(desired, observed)
    # After a link has been moved from another namespace, and before the routes that have these as their source.
    yield from _each("add", (one for one in new_addresses if one.interface != "lo"))
    yield from _each("add", (route for route in new_routes if route.interface is not None))
    yield from _devices(desired, observed)
    yield from _deletes(desired, observed)
    yield from _each("delete", observed.spaces - desired.spaces)
    yield from _each("open", desired.gates - kept)
    held = {one.space for one in desired.filters}
    yield from _each("delete", (one for one in observed.filters if one.space not in held))


def _shortcuts(verb: Verb, changed: frozenset[Shortcut]) -> Iterator[Operation]:
    """Past the workers' rules leads the way that is added last and deleted first: never without the way to them."""
    for to_workers in (verb == "add", verb != "add"):
        yield from _each(verb, (one for one in changed if one.to_workers is to_workers))


def _astray(desired: State, observed: State) -> Iterator[Operation]:
    """Delete lookups and routes that lead elsewhere, in the reverse of the order in which the kernel uses them.

    Each deletion exposes the next lookup or route that a packet would use, which has been deleted by then.
    """
    first: dict[tuple[str, int], int] = {}
    for rule in observed.rules:
        if rule.table is not None:
            looked_up = rule.space, rule.table
            first[looked_up] = min(rule.priority, first.get(looked_up, rule.priority))
    found: list[tuple[int, int, Thing]] = [
        (rule.priority, 0, rule) for rule in observed.rules - desired.rules if rule.table is not None
    ]
    found += [
        (first.get((route.space, route.table), LAST_PRIORITY), route.metric, route)
        for route in observed.routes - desired.routes
        if route.interface is not None
    ]
    operations = [(place, metric, Operation(verb="delete", thing=thing)) for place, metric, thing in found]
    yield from (last for *_, last in sorted(operations, key=lambda one: (-one[0], -one[1], str(one[2]))))


def _kept_gates(desired: State, observed: State) -> frozenset[Gate]:
    """Gates that stay open all the time, because nothing below them changes."""
    below = (desired.devices ^ observed.devices, desired.links ^ observed.links, desired.routes ^ observed.routes)
    changed = {one.on for part in below for one in part}
    # A new table has no open gates; they are opened at the end.
    fresh = {one.space for one in desired.filters - observed.filters}
    return frozenset(
        gate for gate in desired.gates & observed.gates if gate.interface not in changed and gate.space not in fresh
    )


def _links(desired: State, observed: State) -> Iterator[Operation]:
    seen = {_place(link): link for link in observed.links}
    fresh = desired.links - observed.links
    # A new link's rp_filter also if it is right: one that was never written changes with `default`, without a
    # notification (devinet_copy_dflt_conf in net/ipv4/devinet.c).
    new = {link.interface for link in fresh}
    sysctls = desired.sysctls - observed.sysctls
    sysctls |= {one for one in desired.sysctls if one.on in new and one.path[-1] == "rp_filter"}
    own = {link.interface for link in desired.links}
    # Made and configured in the host, so that its UDP socket stays there; without an address, so without an event.
    moving = _arriving(desired, observed)
    at_home = [replace(link, space=HOST) if link in moving else link for link in fresh]
    yield from _each("set", _preserved(desired, observed))
    yield from _each("set", (one for one in sysctls if one.on not in own))
    yield from _each("add", (link for link in at_home if _place(link) not in seen))
    yield from _each("set", at_home)
    yield from _each("move", moving)
    # Before the link goes up: IPv6 would give it a link-local address, an event that Chrome notices.
    yield from _each("set", (one for one in sysctls if one.on in own))
    # A move sets a link down.
    yield from _each("up", (link for link in fresh if not (_place(link) in seen and seen[_place(link)].up)))


def _devices(desired: State, observed: State) -> Iterator[Operation]:
    """Set the changed devices. One that lacks only its peer's allowed ips gets these, and keeps its session."""
    changed = desired.devices - observed.devices
    waiting = frozenset(one for one in changed if _closed(one) in observed.devices)
    yield from _each("set", changed - waiting)
    yield from _each("open", waiting)


def _closed(device: Device) -> Device:
    return replace(device, peer=replace(device.peer, open=False, ipv6=False)) if device.peer else device


def _arriving(desired: State, observed: State) -> frozenset[Link]:
    """The links that are not in their namespace yet."""
    seen = {_place(link) for link in observed.links}
    return frozenset(link for link in desired.links if link.space != HOST and _place(link) not in seen)


def _preserved(desired: State, observed: State) -> Iterator[Sysctl]:
    """Before `all` of a namespace is lowered, set its old value on every other interface there and on `default`.

    The kernel uses max(all, interface), so no other interface is filtered less than before.
    """
    lowered = {one.space for one in desired.sysctls if one == rp_filter("all", 0, one.space)}
    old = {one.space: one.value for one in observed.sysctls if one.path == rp_filter("all", 0).path}
    ours = {(one.space, one.path) for one in desired.sysctls}
    for one in observed.sysctls:
        if one.space not in lowered or one.path[-1] != "rp_filter" or (one.space, one.path) in ours:
            continue
        if one.value < old.get(one.space, 0):
            yield replace(one, value=old[one.space])


def _deletes(desired: State, observed: State) -> Iterator[Operation]:
    old_routes = observed.routes - desired.routes
    old_prohibits = (rule for rule in observed.rules - desired.rules if rule.table is None)
    wanted = {_place(link) for link in desired.links}
    wanted |= {(HOST, link.interface) for link in _arriving(desired, observed)}
    # A device is deleted with its link, so it needs no seal.
    yield from _each("delete", (link for link in observed.links if _place(link) not in wanted))
    yield from _each("delete", old_prohibits)
    yield from _each("delete", (route for route in old_routes if route.interface is None))
    # A namespace's own loopback is the kernel's, wanted or not.
    yield from _each("delete", (one for one in observed.addresses - desired.addresses if not one.address.is_loopback))


def _each(verb: Verb, things: Iterable[Thing]) -> Iterator[Operation]:
    operations = [Operation(verb=verb, thing=thing) for thing in things]
    if len(operations) > 1:  # a rotation changes one thing of each kind: do not make its text for nothing
        operations.sort(key=str)  # the same plan has the same text every time
    yield from operations
