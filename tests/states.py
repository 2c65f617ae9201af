"""Random fleets, and kernel states that netctl may find at its start: any part lost, stale or tampered with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from hypothesis import strategies as st

from fleet.isolation import HOST
from fleet.model import Worker
from fleet.numbers import SHORTCUTS
from netctl.plan.desired import Held, addr_gen_mode, desired, disable_ipv6, rp_filter
from netctl.plan.key import Key, Secret
from netctl.plan.state import State
from netctl.plan.things import Device, Filter, Gate, Link, Route, Rule, Sysctl
from tests.contract.ground import fleet_of
from tests.paths import MAIN, ForeignRule, World

T = TypeVar("T")
COUNT = 3
UIDS = [1101 + index for index in range(COUNT)]
OTHER_INTERFACES = ("default", "lo", "eth0")
_RP_VALUES = st.integers(0, 2)


def held_of(number: int, *, open_: bool) -> Held:
    """The tunnel number NUMBER of a small pool, in which every other key has an IPv6 address."""
    key = Key(
        private=Secret(bytes([number]) * 32),
        address=IPv4Address("198.18.1.0") + number,
        address_v6=IPv6Address("2001:db8:98:1::") + number if number % 2 else None,
        server_public="c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyMTI=",
        server="203.0.113.11",
        port=51820,
    )
    return Held(key=key, endpoint=key.endpoint, open=open_)


isolations = st.sampled_from(["uid", "netns"])
fleets = st.builds(fleet_of, st.integers(1, COUNT), isolations)
helds = st.dictionaries(st.sampled_from(UIDS), st.builds(held_of, st.integers(1, 5), open_=st.booleans()))
spares = st.frozensets(st.sampled_from(UIDS))
kinds = st.sampled_from(["tun", "wireguard"])
foreign_rules = st.builds(
    ForeignRule,
    # Before the fleet's rules, between lookup and prohibit, after both.
    priority=st.sampled_from([1, 5000, 15000, 30000]),
    uids=st.sampled_from([None, range(1101, 1103), range(4000, 4002)]),
    table=st.sampled_from([MAIN, 999]),
)
worlds = st.lists(foreign_rules, max_size=2).map(tuple)


@dataclass(frozen=True)
class Case:
    """The input of a plan: the wanted state, the observed state, and the foreign rules."""

    wanted: State
    observed: State
    world: World
    uids: frozenset[int]
    """The UIDs that WANTED confines."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any wanted fleet, on a host with the remains of any other: parts lost, stale or tampered with."""
    kind = draw(kinds)
    spare = draw(spares) if kind == "wireguard" else frozenset[int]()
    fleet, world = draw(fleets), draw(worlds)
    crowded = any(SHORTCUTS[0] <= one.priority < SHORTCUTS[-1] for one in world)
    return Case(
        wanted=desired(fleet, draw(helds), kind=kind, spare=spare, crowded=crowded),
        observed=draw(observed(kind)),
        world=world,
        uids=frozenset(worker.uid for worker in fleet.members),
    )


@st.composite
def observed(draw: st.DrawFn, kind: str) -> State:
    """A State that a kernel can really be in."""
    spare = draw(spares) if kind == "wireguard" else frozenset[int]()
    whole = desired(draw(fleets), draw(helds), kind=kind, spare=spare)
    spaces = draw(_some(whole.spaces))
    whole = replace(whole, links=frozenset(draw(_on_its_way(link)) for link in sorted(whole.links, key=repr)))
    state = draw(_worn_state(kind, whole.at(HOST), HOST))
    for space in sorted(spaces, key=str):
        state |= draw(_worn_state(kind, whole.at(space.space), space.space))
    return replace(state, spaces=spaces)


@st.composite
def _on_its_way(draw: st.DrawFn, link: Link) -> Link:
    """A link that belongs into a space may not have left the host yet."""
    return link if draw(st.integers(0, 2)) else replace(link, space=HOST)


@st.composite
def _worn_state(draw: st.DrawFn, kind: str, whole: State, space: str) -> State:
    """WHOLE, all of it in SPACE, after damage by another program."""
    links = frozenset(draw(_worn(link, kind)) for link in draw(_some(whole.links)))
    names = {link.interface for link in links}
    up = {link.interface for link in links if link.up}
    addresses = frozenset(one for one in draw(_some(whole.addresses)) if one.interface in {"lo", *names})
    sources = {None, *(one.address for one in addresses)}
    by_place = {(one.family, one.table, one.metric): one for one in draw(_some(whole.routes))}
    by_place |= {(one.family, one.table, one.metric): one for one in draw(_strays(names, space))}
    sysctls = frozenset(draw(_values(names, space)))
    off = {one.path[3] for one in sysctls if one.path[-1] == "disable_ipv6" and one.value}
    routes = [one for one in by_place.values() if one.family == 4 or one.interface not in off]
    filters = draw(_some(whole.filters)) if draw(st.booleans()) else whole.filters
    filters = frozenset(replace(one, intact=draw(st.integers(0, 3)) > 0) for one in filters)
    return State(
        links=links,
        addresses=addresses,
        # A route ends with its link, with that going down or without IPv6, and with its source.
        routes=frozenset(one for one in routes if one.interface in {None, *up} and one.source in sources),
        rules=draw(_some(whole.rules)) | draw(_stray_rules(space)),
        shortcuts=draw(_some(whole.shortcuts)),
        sysctls=sysctls,
        devices=frozenset(device for name in sorted(names) for device in draw(_devices(name, whole, space))),
        gates=draw(_gates(filters, whole)),
        filters=filters,
    )


def _some(things: frozenset[T]) -> st.SearchStrategy[frozenset[T]]:
    """Any part of a set; often all of it."""
    listed = sorted(things, key=repr)
    if not listed:
        return st.just(frozenset[T]())
    return st.one_of(st.just(frozenset(listed)), st.frozensets(st.sampled_from(listed)))


@st.composite
def _worn(draw: st.DrawFn, link: Link, kind: str) -> Link:
    """LINK down, with another MTU, or without the alias if wireguard-go has just made it."""
    alias = draw(st.sampled_from([link.alias, ""])) if kind == "tun" else link.alias
    return replace(link, alias=alias, up=draw(st.integers(0, 3)) > 0, mtu_bytes=draw(st.sampled_from([1420, 1280])))


@st.composite
def _devices(draw: st.DrawFn, name: str, whole: State, space: str) -> list[Device]:
    """As it was, sealed, with another key, or unknown because it does not answer."""
    was = [one for one in whole.devices if one.interface == name]
    other = held_of(draw(st.integers(6, 8)), open_=True)
    changed = replace(was[0], private=other.key.private) if was else Device(interface=name, space=space)
    return draw(st.sampled_from([was, was, [Device(interface=name, space=space)], [changed], []]))


@st.composite
def _values(draw: st.DrawFn, names: set[str], space: str) -> list[Sysctl]:
    """Sysctls of every interface, with any values."""
    others = OTHER_INTERFACES if space == HOST else OTHER_INTERFACES[:2]
    values = [rp_filter(name, draw(_RP_VALUES), space) for name in ("all", *others, *sorted(names))]
    own = [make(name, space) for name in sorted(names) for make in (addr_gen_mode, disable_ipv6)]
    return values + [replace(one, value=draw(st.integers(0, 1))) for one in own]


@st.composite
def _strays(draw: st.DrawFn, names: set[str], space: str) -> frozenset[Route]:
    """A worker's table that leads into another's tunnel."""
    if not names or draw(st.booleans()):
        return frozenset()
    worker, name = Worker(uid=draw(st.sampled_from(UIDS))), draw(st.sampled_from(sorted(names)))
    metric = draw(st.sampled_from([0, 7]))
    return frozenset({Route(family=4, table=worker.table, interface=name, metric=metric, space=space)})


@st.composite
def _stray_rules(draw: st.DrawFn, space: str) -> frozenset[Rule]:
    """A rule with the fleet's protocol number that looks up another table, before or after the fleet's rules."""
    if draw(st.integers(0, 2)):
        return frozenset()
    uid, other = draw(st.sampled_from(UIDS)), Worker(uid=draw(st.sampled_from(UIDS)))
    table = draw(st.sampled_from([other.table, MAIN, 999]))
    priority = draw(st.sampled_from([10000, 25000]))
    return frozenset({Rule(family=4, priority=priority, uid=uid, table=table, space=space)})


@st.composite
def _gates(draw: st.DrawFn, filters: frozenset[Filter], whole: State) -> frozenset[Gate]:
    """Gates of UIDs that the table confines, with the leased address or an earlier one."""
    held_back = {uid for one in filters for uid in one.uids}
    kept = [gate for gate in draw(_some(whole.gates)) if gate.uid in held_back]
    stale, stale_v6 = IPv4Address("198.18.1.9"), IPv6Address("2001:db8:98:1::9")
    return frozenset(
        replace(
            gate,
            address=draw(st.sampled_from([gate.address, stale])),
            address_v6=draw(st.sampled_from([gate.address_v6, None, stale_v6])),
        )
        for gate in kept
    )
