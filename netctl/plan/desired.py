"""The state that the kernel should have: a pure function of the fleet and its leases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from fleet.backends import makes_links
from fleet.isolation import HOST, Isolation
from fleet.model import Fleet, Worker
from netctl.plan.key import LEAST_IPV6_BYTES, Endpoint, Key
from netctl.plan.shortcut import shortcuts
from netctl.plan.state import State
from netctl.plan.things import (
    Address,
    Device,
    Family,
    Filter,
    Gate,
    Link,
    Peer,
    Route,
    Rule,
    Space,
    Stack,
    Sysctl,
)

_GENERATIONS = 128
"""The distance between the first zones of two workers: the zones of 512 workers do not overlap at first."""
LOCAL_TABLE, KERNEL_PROTOCOL = 255, 2
"""RT_TABLE_LOCAL, by which a host accepts packets, and RTPROT_KERNEL, the mark of what the kernel makes."""
LAST_METRIC = 4294967295
"""The metric with the lowest priority: 2^32 - 1."""
FIRST_METRIC_V6 = 1024
"""The metric of an IPv6 route set without one (IP6_RT_PRIO_USER): the kernel lists this instead of 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a slot holds: the key, its server's endpoint, and whether traffic may pass yet."""

    key: Key
    endpoint: Endpoint
    """Address and port; a name is resolved already."""
    open: bool
    generation: int = 0
    """The lease's generation, different for each lease of a worker; 0: not known."""


def desired(
    fleet: Fleet,
    leases: Mapping[int, Held],
    *,
    kind: str,
    ipv6: Stack = "on",
    spare: frozenset[int] = frozenset(),
    crowded: bool = False,
) -> State:
    """The State for FLEET and LEASES (by UID); KIND is the backend's link kind.

    The links of the workers in SPARE (UIDs) have their spare names. CROWDED: see shared().
    """
    whole = shared(fleet, kind, ipv6=ipv6, crowded=crowded)
    for worker in fleet.members:
        held = leases.get(worker.uid)
        whole |= slot(fleet, worker, held, kind=kind, ipv6=ipv6, spare=worker.uid in spare)
    return whole


def shared(fleet: Fleet, kind: str, *, ipv6: Stack = "on", crowded: bool = False) -> State:
    """The objects that belong to no single worker, all in the host: the table that blocks all workers, rp_filter of
    `all`, and the shortcuts; not these where CROWDED: another program has a rule that they would skip.

    With a namespace for each worker, this table's gates are never opened, and nothing else is needed.
    """
    alone = any(fleet.walls.space(worker) != HOST for worker in fleet.members)
    families: tuple[Family, ...] = () if alone or crowded else (4,) if ipv6 == "absent" else (4, 6)
    return State(
        shortcuts=frozenset(one for family in families for one in shortcuts(family)),
        # An address-less interface needs 0 for itself and for `all`: the kernel takes the larger
        # (Documentation/networking/ip-sysctl.rst, rp_filter).
        sysctls=frozenset[Sysctl]() if alone else frozenset({rp_filter("all", 0)}),
        filters=frozenset({holding(fleet, fleet.members, marked=makes_links(kind))}),
    )


def holding(fleet: Fleet, workers: Iterable[Worker], space: str = HOST, *, marked: bool = False) -> Filter:
    """The table that blocks WORKERS in SPACE; MARKED if the kernel itself sends a tunnel's outer packets.

    A link's outer packets leave from the namespace in which it was made, the host's.
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
    """One worker's part: always its layers; device and gate for HELD; the link has the SPARE or the usual name."""
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

    A zone has 16 bits, and 0 is the default zone. A worker's zones repeat after 65,535 leases. Two workers may share a
    zone, because their source addresses differ.
    """
    return 1 + (worker.number * _GENERATIONS + generation) % (2**16 - 1) if generation else 0


def mtu_bytes(fleet: Fleet, held: Held | None) -> int:
    """The tunnel's MTU: the smaller of the setting and the value in the key's file."""
    return min(fleet.wireguard.mtu, held.key.mtu_bytes or fleet.wireguard.mtu) if held else fleet.wireguard.mtu


@cache
def _layers(worker: Worker, link: Link, walls: Isolation, *, ipv6: Stack, carried: bool) -> State:
    """The layers below a worker's tunnel through LINK; cached, as they are the same for all keys with and without IPv6.

    CARRIED: with a route for IPv6. The IPv6 placeholder exists with every key wherever the kernel allows it: adding it
    with a key would be an address event for all browsers.
    """
    name, space = link.interface, link.space
    addresses = {Address(address=worker.placeholder, interface=walls.address_on(name), space=space)}
    sysctls = [rp_filter(name, 0, space)]
    # A link with a smaller MTU loses IPv6 with its sysctls (NETDEV_CHANGEMTU in net/ipv6/addrconf.c).
    if ipv6 != "absent" and link.mtu_bytes >= LEAST_IPV6_BYTES:
        sysctls += [addr_gen_mode(name, space), disable_ipv6(name, space, off=not carried)]
    if space != HOST:
        sysctls.append(rp_filter("all", 0, space))  # the host's is in shared()
    if ipv6 == "on":
        # On `lo`, not on the link: a key without an IPv6 address turns IPv6 off there, which deletes its addresses.
        addresses.add(Address(address=worker.placeholder_v6, prefix=128, space=space))
    layers = State(
        links=frozenset({link}),
        addresses=frozenset(addresses),
        routes=frozenset(
            replace(one, space=space) for one in _routes(worker, name, ipv6=ipv6 != "absent", carried=carried)
        ),
        rules=frozenset(replace(one, space=space) for one in _rules(worker, ipv6 != "absent")),
        sysctls=frozenset(sysctls),
    )
    return layers if space == HOST else layers | own_space(space, ipv6)


def own_space(space: str, ipv6: Stack) -> State:
    """SPACE with what the kernel itself puts there: a worker speaks to its browser through that."""
    addresses = {Address(address=IPv4Address("127.0.0.1"), prefix=8, space=space)}
    rules = {first_rule(4, space)}
    if ipv6 == "on":
        addresses.add(Address(address=IPv6Address("::1"), prefix=128, space=space))
    if ipv6 != "absent":
        rules.add(first_rule(6, space))
    return State(spaces=frozenset({Space(space=space)}), addresses=frozenset(addresses), rules=frozenset(rules))


def first_rule(family: Family, space: str) -> Rule:
    """Before every other: what is addressed to this namespace is taken in."""
    return Rule(family=family, priority=0, table=LOCAL_TABLE, protocol=KERNEL_PROTOCOL, space=space)


def device(fleet: Fleet, worker: Worker, interface: str, held: Held | None, *, ipv6: bool = True) -> Device:
    """WORKER's device INTERFACE for HELD; IPV6: whether the tunnel can carry IPv6."""
    space = fleet.walls.space(worker)
    if held is None:
        return Device(interface=interface, space=space)
    peer = Peer(
        public_key=held.key.server_public,
        preshared=held.key.preshared,
        keepalive_seconds=fleet.wireguard.keepalive_seconds,
        ipv6=held.open and ipv6 and held.key.address_v6 is not None,
        # A device that is a program has a queue: packets that the worker sent through the last gate may still be in it,
        # and would be encrypted for the new server as soon as it has allowed ips. Until the gate opens it has none, so
        # these packets are discarded.
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
    """A lookup rule by UID and one by placeholder source, and for each a prohibit rule that comes after it.

    The source rules match packets that the kernel sends for a closed socket: these have no UID.
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
    """Reverse path filtering of INTERFACE, which may be `all` or `default`."""
    return Sysctl(path=("net", "ipv4", "conf", interface, "rp_filter"), value=value, space=space)


def disable_ipv6(interface: str, space: str = HOST, *, off: bool = True) -> Sysctl:
    """IPv6 OFF or on; on, routes may lead through INTERFACE. Turning it off deletes these without a notification."""
    return Sysctl(path=("net", "ipv6", "conf", interface, "disable_ipv6"), value=int(off), space=space)


def addr_gen_mode(interface: str, space: str = HOST) -> Sysctl:
    """No link-local address when the link goes up or IPv6 is turned on: that would be an address event.

    1 is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h). It has to be set before `disable_ipv6`, and sorts before it.
    """
    return Sysctl(path=("net", "ipv6", "conf", interface, "addr_gen_mode"), value=1, space=space)
