"""What the kernel should hold: a pure function of the fleet and of the leases it holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from fleet.backends import makes_links
from fleet.isolation import HOST, Isolation
from fleet.model import Fleet, Worker
from netctl.plan.key import LEAST_IPV6_BYTES, Endpoint, Key
from netctl.plan.state import State
from netctl.plan.things import Address, Device, Filter, Gate, Link, Peer, Route, Rule, Space, Stack, Sysctl

_GENERATIONS = 128
"""So many zones lie between a worker's and the next one's: 512 workers share none for a while."""
LAST_METRIC = 4294967295
"""The metric that loses against every other: 2^32 - 1."""


FIRST_METRIC_V6 = 1024
"""What an IPv6 route without a metric gets (IP6_RT_PRIO_USER); 0 never reads back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a slot holds: the key, where its server is, and whether traffic may pass yet."""

    key: Key
    endpoint: Endpoint
    """Address and port; names are resolved."""
    open: bool
    generation: int = 0
    """The lease's, which each of a worker has another of; 0: not known."""


def desired(
    fleet: Fleet, leases: Mapping[int, Held], *, kind: str, ipv6: Stack = "on", spare: frozenset[int] = frozenset()
) -> State:
    """The State that FLEET and LEASES (by UID) ask for; KIND is the backend's link kind.

    The links of the workers in SPARE (UIDs) have their spare names.
    """
    whole = shared(fleet, kind)
    for worker in fleet.members:
        held = leases.get(worker.uid)
        whole |= slot(fleet, worker, held, kind=kind, ipv6=ipv6, spare=worker.uid in spare)
    return whole


def shared(fleet: Fleet, kind: str) -> State:
    """What belongs to no one worker, all of it in the host: the table that holds all back, and rp_filter of `all`.

    With a space for each worker the table's gates there stay closed for ever, and no sysctl is touched.
    """
    alone = any(fleet.walls.space(worker) != HOST for worker in fleet.members)
    return State(
        # An address-less interface needs 0 for itself and for `all`: the kernel takes the larger
        # (Documentation/networking/ip-sysctl.rst, rp_filter).
        sysctls=frozenset[Sysctl]() if alone else frozenset({rp_filter("all", 0)}),
        filters=frozenset({holding(fleet, fleet.members, marked=makes_links(kind))}),
    )


def holding(fleet: Fleet, workers: Iterable[Worker], space: str = HOST, *, marked: bool = False) -> Filter:
    """The table that holds WORKERS back in SPACE; MARKED where the kernel itself sends what leaves a tunnel.

    A link's outer packets leave from the namespace in which it was made, which is the host's.
    """
    return Filter(
        uids=frozenset(worker.uid for worker in workers),
        resolvers=frozenset(fleet.dns.resolvers),
        reachable=fleet.reach.networks,
        loopback_ports=frozenset(fleet.reach.loopback_ports),
        marked=marked,
        space=space,
    )


def slot(
    fleet: Fleet, worker: Worker, held: Held | None, *, kind: str, ipv6: Stack = "on", spare: bool = False
) -> State:
    """One worker's slice: its layers always, its device and gate as HELD says, under the SPARE name or the usual."""
    name, space = worker.spare_interface if spare else worker.interface, fleet.walls.space(worker)
    link = Link(interface=name, kind=kind, alias=worker.alias, mtu_bytes=mtu_bytes(fleet, held), space=space)
    room = ipv6 == "on" and link.mtu_bytes >= LEAST_IPV6_BYTES
    carried = held.key.address_v6 if held is not None and room else None
    layers = _layers(worker, link, fleet.walls, ipv6=ipv6, carried=carried is not None)
    if space != HOST:
        layers = replace(layers, filters=frozenset({holding(fleet, [worker], space)}))
    if held is not None and held.open:
        gate = Gate(
            uid=worker.uid,
            address=held.key.address,
            address_v6=carried,
            interface=name,
            zone=zone(worker, held.generation),
            space=space,
        )
        layers = replace(layers, gates=frozenset({gate}))
    return replace(layers, devices=frozenset({device(fleet, worker, name, held, ipv6=ipv6 == "on")}))


def zone(worker: Worker, generation: int) -> int:
    """The connection tracking zone of WORKER's lease of that GENERATION.

    A zone has 16 bits, and 0 is everybody's. One comes round again after 65,535 leases of a worker; that two workers
    share one does no harm, since their sources differ.
    """
    return 1 + (worker.number * _GENERATIONS + generation) % (2**16 - 1) if generation else 0


def mtu_bytes(fleet: Fleet, held: Held | None) -> int:
    """What a tunnel carries in a packet: the smaller of the setting and what the key's file says."""
    return min(fleet.wireguard.mtu, held.key.mtu_bytes or fleet.wireguard.mtu) if held else fleet.wireguard.mtu


@cache
def _layers(worker: Worker, link: Link, walls: Isolation, *, ipv6: Stack, carried: bool) -> State:
    """What a worker's tunnel through LINK stands on; made once, for it is the same with every key of a kind.

    CARRIED: with a way out for IPv6. Its placeholder is there wherever it can be, with any key: an address
    that came with one would be an event for everybody.
    """
    name, space = link.interface, link.space
    addresses = {Address(address=worker.placeholder, interface=walls.address_on(name), space=space)}
    sysctls = [rp_filter(name, 0, space)]
    # A link with a smaller MTU loses all of IPv6, its sysctls too (NETDEV_CHANGEMTU in net/ipv6/addrconf.c).
    if ipv6 != "absent" and link.mtu_bytes >= LEAST_IPV6_BYTES:
        sysctls += [addr_gen_mode(name, space), disable_ipv6(name, space, off=not carried)]
    if space != HOST:
        sysctls.append(rp_filter("all", 0, space))  # the host's is shared, this one is not
    if ipv6 == "on":
        # Never on the link, which loses it with IPv6: a key without an address turns that off.
        addresses.add(Address(address=worker.placeholder_v6, prefix=128, space=space))
    return State(
        spaces=frozenset[Space]() if space == HOST else frozenset({Space(space=space)}),
        links=frozenset({link}),
        addresses=frozenset(addresses),
        routes=frozenset(
            replace(one, space=space) for one in _routes(worker, name, ipv6=ipv6 != "absent", carried=carried)
        ),
        rules=frozenset(replace(one, space=space) for one in _rules(worker, ipv6 != "absent")),
        sysctls=frozenset(sysctls),
    )


def device(fleet: Fleet, worker: Worker, interface: str, held: Held | None, *, ipv6: bool = True) -> Device:
    """WORKER's device INTERFACE as HELD says; with IPV6 only where it can be carried."""
    space = fleet.walls.space(worker)
    if held is None:
        return Device(interface=interface, space=space)
    peer = Peer(
        public_key=held.key.server_public,
        preshared=held.key.preshared,
        keepalive_seconds=fleet.wireguard.keepalive_seconds,
        ipv6=held.open and ipv6 and held.key.address_v6 is not None,
        # A program's device has a queue: what a worker sent through the gate before lies there still, and would be
        # sealed for the new server as soon as that one is allowed anything. Until the gate opens it is thrown away.
        open=held.open,
        endpoint=held.endpoint,
    )
    return Device(interface=interface, private=held.key.private, peer=peer, space=space)


def _routes(worker: Worker, interface: str, *, ipv6: bool, carried: bool) -> Iterable[Route]:
    yield Route(family=4, table=worker.table, interface=interface, source=worker.placeholder)
    yield Route(family=4, table=worker.table, metric=LAST_METRIC)
    if ipv6:
        yield Route(family=6, table=worker.table, metric=LAST_METRIC)
    if carried:
        yield Route(
            family=6, table=worker.table, interface=interface, source=worker.placeholder_v6, metric=FIRST_METRIC_V6
        )


def _rules(worker: Worker, ipv6: bool) -> Iterable[Rule]:
    """Lookup by UID and by placeholder source, and for each a prohibit that is asked next.

    The source rules catch what the kernel sends for a socket that is gone: it carries no UID.
    """
    yield Rule(family=4, priority=worker.table, uid=worker.uid, table=worker.table)
    yield Rule(family=4, priority=worker.table, source=worker.placeholder, table=worker.table)
    yield Rule(family=4, priority=worker.prohibit_priority, uid=worker.uid)
    yield Rule(family=4, priority=worker.prohibit_priority, source=worker.placeholder)
    if ipv6:
        yield Rule(family=6, priority=worker.table, uid=worker.uid, table=worker.table)
        yield Rule(family=6, priority=worker.table, source=worker.placeholder_v6, table=worker.table)
        yield Rule(family=6, priority=worker.prohibit_priority, uid=worker.uid)
        yield Rule(family=6, priority=worker.prohibit_priority, source=worker.placeholder_v6)


def rp_filter(interface: str, value: int, space: str = HOST) -> Sysctl:
    """Reverse path filtering of INTERFACE, `all` or `default`."""
    return Sysctl(path=("net", "ipv4", "conf", interface, "rp_filter"), value=value, space=space)


def disable_ipv6(interface: str, space: str = HOST, *, off: bool = True) -> Sysctl:
    """IPv6 OFF, or on: then routes may lead through INTERFACE. Turning it off deletes them without a notification."""
    return Sysctl(path=("net", "ipv6", "conf", interface, "disable_ipv6"), value=int(off), space=space)


def addr_gen_mode(interface: str, space: str = HOST) -> Sysctl:
    """No link-local address when the link goes up, or IPv6 on: that would be an address event.

    1 is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h). It has to be set before `disable_ipv6`, and sorts before it.
    """
    return Sysctl(path=("net", "ipv6", "conf", interface, "addr_gen_mode"), value=1, space=space)
