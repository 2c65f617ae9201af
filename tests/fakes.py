"""A fake kernel in memory: netctl's objects, those of other programs, WireGuard devices, and servers that answer.

`after` is the pure part: it applies one operation to one State, and refuses what the kernel would refuse. The contract
suite (tests/contract, ground `fake`) checks that it behaves as the real kernels do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from fleet.backends import KERNEL, Backend
from fleet.errors import KernelRefused, TunnelError
from fleet.isolation import HOST
from netctl.host import Found
from netctl.plan.desired import addr_gen_mode, disable_ipv6, own_space, rp_filter
from netctl.plan.diff import Operation
from netctl.plan.key import Secret
from netctl.plan.state import State
from netctl.plan.things import Address, Device, Filter, Gate, Link, Route, Space, Sysctl, Thing
from netctl.wireguard.contract import Reading
from tests.paths import ForeignRule

_Change = Callable[[State, Any, str], State]
HEARD_IN = (HOST, "fleet-w1101")
"""The namespaces whose address events are recorded."""
MADE_MTU_BYTES = 1420
"""The MTU of a fresh WireGuard link."""


def after(state: State, operation: Operation) -> State:
    """STATE after OPERATION; raises KernelRefused or TunnelError as netctl.host would."""
    thing, verb = operation.thing, operation.verb
    if operation.space != HOST and operation.space not in {one.space for one in state.spaces}:
        raise KernelRefused(f"{operation}: there is no {operation.space}")
    return _CHANGES.get(type(thing), _change)(state, thing, verb)


def _change(state: State, thing: Thing, verb: str) -> State:
    """Add or delete a thing without side effects."""
    return state - State.of([thing]) if verb == "delete" else state | State.of([thing])


def _address(state: State, address: Address, verb: str) -> State:
    if verb != "delete":
        there = address.interface == "lo" or _link_at(state, address.space, address.interface) is not None
        return replace(state, addresses=state.addresses | {address}) if there else state
    # A route goes with its preferred source (fib_sync_down_addr in net/ipv4/fib_semantics.c); an IPv6 one only
    # loses it (fib6_remove_prefsrc in net/ipv6/route.c).
    gone = {one for one in state.routes if (one.space, one.source) == (address.space, address.address)}
    routes = state.routes - gone | {replace(one, source=None) for one in gone if one.family == 6}
    return replace(state, addresses=state.addresses - {address}, routes=routes)


def _space(state: State, space: Space, verb: str) -> State:
    """Add a namespace with the host's values (net.core.devconf_inherit_init_net) and the kernel's own objects.

    Deleting one deletes everything in it.
    """
    if verb != "delete":
        values = {one.path: one.value for one in state.sysctls if one.space == HOST}
        fresh = (rp_filter(name, 0, space.space) for name in ("all", "default", "lo"))
        sysctls = frozenset(replace(one, value=values.get(one.path, 0)) for one in fresh)
        return state | replace(own_space(space.space, "on"), sysctls=sysctls)
    return state.keep(lambda one: one.space != space.space)


def _filter(state: State, wanted: Filter, verb: str) -> State:
    # One transaction replaces the table, with every gate closed; deleting a table deletes its gates.
    gates = frozenset(one for one in state.gates if one.space != wanted.space)
    others = frozenset(one for one in state.filters if one.space != wanted.space)
    return replace(state, gates=gates, filters=others if verb == "delete" else others | {wanted})


def _sysctl(state: State, sysctl: Sysctl, _verb: str) -> State:
    others = frozenset(one for one in state.sysctls if (one.space, one.path) != (sysctl.space, sysctl.path))
    if others == state.sysctls:
        return state
    changed = replace(state, sysctls=others | {sysctl})
    if sysctl != disable_ipv6(sysctl.path[3], sysctl.space):
        return changed
    # Disabling IPv6 removes the IPv6 routes through the link (addrconf_ifdown in net/ipv6/addrconf.c).
    lost = {one for one in state.routes if (one.space, one.interface, one.family) == (sysctl.space, sysctl.path[3], 6)}
    return replace(changed, routes=state.routes - lost)


def _link_at(state: State, space: str, name: str | None) -> Link | None:
    return next((one for one in state.links if (one.space, one.interface) == (space, name)), None)


def _link(state: State, link: Link, verb: str) -> State:
    name, space = link.interface, link.space
    if verb == "move":
        return _moved(state, link)
    old = _link_at(state, space, name)
    if verb == "delete":
        return without_link(state, name, space)
    if verb == "add":
        return state if old is not None else with_fresh_link(state, name, link.kind, space)
    if old is None:
        return state  # gone meanwhile: netctl acts again on the notification of that
    new = replace(old, up=True) if verb == "up" else replace(old, alias=link.alias, mtu_bytes=link.mtu_bytes)
    return replace(state, links=state.links - {old} | {new})


def _moved(state: State, link: Link) -> State:
    """Move a link into a namespace: it is down there, with that namespace's defaults, without addresses and routes."""
    name, old = link.interface, _link_at(state, HOST, link.interface)
    if old is None:
        return state
    if _link_at(state, link.space, name) is not None:
        raise KernelRefused(f"{name} to {link.space}: EEXIST")
    device = next((one for one in state.devices if (one.space, one.interface) == (HOST, name)), None)
    made = with_fresh_link(without_link(state, name), name, old.kind, link.space)
    fresh = _link_at(made, link.space, name)
    assert fresh is not None
    moved = replace(made, links=made.links - {fresh} | {replace(old, space=link.space, up=False)})
    return moved if device is None else _device(moved, replace(device, space=link.space), "set")


def with_fresh_link(state: State, name: str, kind: str, space: str = HOST) -> State:
    """Add a WireGuard link: down, without an alias, sealed, with the defaults of its namespace."""
    values = {one.path: one.value for one in state.sysctls if one.space == space}
    fresh = [
        rp_filter(name, values.get(rp_filter("default", 0).path, 0), space),
        replace(addr_gen_mode(name, space), value=0),
        disable_ipv6(name, space, off=False),
    ]
    link = Link(interface=name, kind=kind, alias="", mtu_bytes=MADE_MTU_BYTES, up=False, space=space)
    return replace(
        state,
        links=state.links | {link},
        devices=state.devices | {Device(interface=name, space=space)},
        sysctls=state.sysctls | set(fresh),
    )


def without_link(state: State, name: str, space: str = HOST) -> State:
    """Remove a link and everything that depends on it, except its gate."""
    return replace(state.keep(lambda one: (one.space, one.on) != (space, name)), gates=state.gates)


def _device(state: State, device: Device, _verb: str) -> State:
    if _link_at(state, device.space, device.interface) is None:
        raise TunnelError(f"there is no {device.interface}")
    others = frozenset(one for one in state.devices if (one.space, one.interface) != (device.space, device.interface))
    return replace(state, devices=others | {device})


def _route(state: State, route: Route, verb: str) -> State:
    if verb == "delete":
        return replace(state, routes=state.routes - {route})
    if route.interface is not None:
        link = _link_at(state, route.space, route.interface)
        if link is None:
            return state
        if not link.up:
            raise KernelRefused(f"a route through {route.interface}: ENETDOWN")
        if route.family == 6 and disable_ipv6(route.interface, route.space) in state.sysctls:
            raise KernelRefused(f"a route through {route.interface}: IPv6 is disabled on nexthop device")
    if any(_slot_of(one) == _slot_of(route) for one in state.routes):
        return state  # EEXIST, which is no error if it is the same route
    if route.source is not None and (route.space, route.source) not in {
        (one.space, one.address) for one in state.addresses
    }:
        raise KernelRefused(f"a route from {route.source}: EINVAL")
    return replace(state, routes=state.routes | {route})


def _slot_of(route: Route) -> tuple[str, int, int, int]:
    return route.space, route.family, route.table, route.metric


def _gate(state: State, gate: Gate, verb: str) -> State:
    if gate.space not in {one.space for one in state.filters}:
        raise KernelRefused("nftables refused: No such file or directory")
    if verb == "seal":
        return replace(state, gates=state.gates - {gate})
    if any((one.space, one.interface) == (gate.space, gate.interface) and one != gate for one in state.gates):
        raise KernelRefused("nftables refused: File exists")  # a map's key has one value
    return replace(state, gates=state.gates | {gate})


_CHANGES: dict[type, _Change] = {
    Space: _space,
    Link: _link,
    Device: _device,
    Route: _route,
    Filter: _filter,
    Gate: _gate,
    Sysctl: _sysctl,
    Address: _address,
}


@dataclass
class FakeKernel:
    """Observes and applies like netctl.host.Host, reads and writes devices like a backend."""

    backend: Backend = KERNEL
    state: State = field(
        default_factory=lambda: State(
            sysctls=frozenset(rp_filter(name, 0) for name in ("all", "default", "lo", "eth0"))
        )
    )
    servers: dict[tuple[str, int], tuple[str, frozenset[str]]] = field(default_factory=dict)
    """By endpoint: the server's public key and its clients' public keys; other endpoints do not answer."""
    foreign_rules: tuple[ForeignRule, ...] = ()
    claimed: tuple[tuple[str, str], ...] = ()
    """Foreign objects inside netctl's own marks."""
    events: list[str] = field(default_factory=list)
    """Address events so far."""
    readings: dict[str, Reading] = field(default_factory=dict)
    strangers: dict[str, list[str]] = field(default_factory=dict)
    """Peers that another program added, by interface."""
    hung: set[str] = field(default_factory=set)

    # --- like netctl.host.Host

    async def __aenter__(self) -> FakeKernel:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def observe(self) -> Found:
        """A link without an alias is foreign, unless wireguard-go makes the links."""
        owned = {one.interface for one in self.state.links if one.alias or not self.backend.makes_links}
        devices = frozenset(one for one in self.state.devices if one.interface in owned - self.hung)
        links = frozenset(one for one in self.state.links if one.interface in owned)
        sysctls = frozenset(one for one in self.state.sysctls if one.path[-1] == "rp_filter" or one.path[3] in owned)
        return Found(state=replace(self.state, links=links, devices=devices, sysctls=sysctls), foreign=self.claimed)

    async def apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation.thing, Device):
                await (self.open if operation.verb == "open" else self.write)(operation.thing)
                continue
            before = self.state
            self.state = after(before, operation)
            changed = before.addresses ^ self.state.addresses
            self.events += [str(one.address) for one in changed if one.space in HEARD_IN]

    # --- like a netctl.wireguard.contract.WireGuard

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        if interface in self.hung:
            raise TunnelError(f"{interface} did not answer")
        # wireguard-go is asked by interface name alone, whatever namespace the interface is in.
        found = (one for one in self.state.devices if one.interface == interface)
        device = next((one for one in found if not self.backend.makes_links or one.space == space), None)
        if device is None:
            return None
        device = replace(device, space=space)
        if self.strangers.get(interface) and device.peer is not None:
            device = replace(device, peer=replace(device.peer, preshared=Secret(b"\xff" * 32)))
        nothing = Reading(device=device, last_handshake=None, received_bytes=0, sent_bytes=0)
        return replace(self.readings.get(interface, nothing), device=device)

    async def write(self, device: Device) -> None:
        if device.interface in self.hung:
            raise TunnelError(f"{device.interface} did not answer")
        self.state = after(self.state, Operation(verb="set", thing=device))
        self.strangers.pop(device.interface, None)
        up = any(one.interface == device.interface and one.up for one in self.state.links)
        shaken = up and self.answers(device)
        self.readings[device.interface] = Reading(
            device=device,
            last_handshake=datetime.now(timezone.utc) if shaken else None,
            received_bytes=92 if shaken else 0,
            sent_bytes=148 if up and device.peer is not None else 0,
        )

    async def open(self, device: Device) -> None:
        if device.interface in self.hung:
            raise TunnelError(f"{device.interface} did not answer")
        self.state = after(self.state, Operation(verb="open", thing=device))

    async def restart(self, interface: str) -> bool:
        """If wireguard-go makes the links, its supervisor starts a new one; False with kernel WireGuard."""
        if self.backend.makes_links:
            return False
        self.hung.discard(interface)
        self.state = with_fresh_link(without_link(self.state, interface), interface, self.backend.link_kind)
        return True

    def answers(self, device: Device) -> bool:
        """Whether a server answers at DEVICE's endpoint, has the expected public key, and knows DEVICE's key."""
        if device.peer is None or device.private is None:
            return False
        public, clients = self.servers.get(device.peer.endpoint, ("", frozenset()))
        return device.peer.public_key == public and device.private.public() in clients
