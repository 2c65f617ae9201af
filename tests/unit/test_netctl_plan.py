"""The plan as a pure function, over random fleets: safe order, idempotent, readable, silent about keys."""

from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import IPv4Address

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import model
from fleet.model import Fleet
from netctl import plan
from netctl.conf import Key, Secret
from netctl.plan import Operation
from netctl.state import Device, Filter, Gate, Held, Link, Route, Rule, State, Sysctl, desired, rp_filter, slice_of

COUNT = 3


def fleet_of(count: int) -> Fleet:
    """A fleet of COUNT workers."""
    return model.parse(
        f'[workers]\ncount = {count}\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]',
        "test",
    )


def held_of(number: int, *, open_: bool) -> Held:
    """The tunnel number NUMBER of a small pool."""
    key = Key(
        private=Secret(bytes([number]) * 32),
        address=IPv4Address("198.18.1.0") + number,
        server_public="c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyMTI=",
        endpoint_host="203.0.113.11",
        endpoint_port=51820,
    )
    return Held(key=key, endpoint=("203.0.113.11", 51820), open=open_)


helds = st.dictionaries(
    st.sampled_from([1101 + index for index in range(COUNT)]),
    st.builds(held_of, st.integers(1, 5), open_=st.booleans()),
)
kinds = st.sampled_from(["tun", "wireguard"])


@st.composite
def states(draw: st.DrawFn, kind: str) -> State:
    """What a kernel may hold: some fleet's state with any part of it lost."""
    whole = desired(fleet_of(draw(st.integers(1, COUNT))), draw(helds), kind=kind)
    left = {}
    for part in fields(State):
        things = sorted(getattr(whole, part.name), key=repr)
        left[part.name] = frozenset(draw(st.lists(st.sampled_from(things), unique=True)) if things else [])
    return State(**left)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[State, State]:
    """A desired and an observed state of one backend."""
    kind = draw(kinds)
    return desired(fleet_of(draw(st.integers(1, COUNT))), draw(helds), kind=kind), draw(states(kind))


def applied(state: State, operation: Operation) -> State:
    """A model of the kernel: STATE behind OPERATION."""
    thing, verb = operation.thing, operation.verb
    name = {Gate: "gates", Filter: "filters", Device: "devices", Link: "links", Route: "routes"}.get(type(thing))
    name = name or {Rule: "rules", Sysctl: "sysctls"}.get(type(thing), "addresses")
    things = set(getattr(state, name))
    if verb in ("delete", "seal"):
        things.discard(thing)
        if isinstance(thing, Link):
            gone = thing.interface
            state = replace(
                state,
                devices=frozenset(one for one in state.devices if one.interface != gone),
                sysctls=frozenset(one for one in state.sysctls if gone not in one.path),
                routes=frozenset(one for one in state.routes if one.interface != gone),
            )
    else:
        if isinstance(thing, Filter):
            things, state = set(), replace(state, gates=frozenset())  # made anew, in one transaction
        if isinstance(thing, Link):
            things = {one for one in things if one.interface != thing.interface}
        if isinstance(thing, Device):
            things = {one for one in things if one.interface != thing.interface}
        if isinstance(thing, Sysctl):
            things = {one for one in things if one.path != thing.path}
        things.add(thing)
    return replace(state, **{name: frozenset(things)})


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_a_plan_reaches_its_goal_and_then_there_is_nothing_to_do(pair: tuple[State, State]) -> None:
    """Applying a plan and planning again gives an empty plan."""
    wanted, state = pair
    for operation in plan.diff(wanted, state):
        state = applied(state, operation)
    assert plan.diff(wanted, state) == ()


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_no_prefix_of_a_plan_opens_a_way_out(pair: tuple[State, State]) -> None:
    """At every step each open gate was open before or is wanted, and leads to the device that belongs to it."""
    wanted, state = pair
    observed = state
    for operation in plan.diff(wanted, state):
        state = applied(state, operation)
        assert state.gates <= wanted.gates | observed.gates
        for gate in state.gates - observed.gates:
            name = gate.worker.interface
            assert {one for one in wanted.devices if one.interface == name} <= state.devices
            assert slice_of(wanted, gate.worker).rules <= state.rules
            assert slice_of(wanted, gate.worker).routes <= state.routes


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_a_device_is_never_changed_behind_an_open_gate(pair: tuple[State, State]) -> None:
    """Whoever swaps a key or a peer has closed the gate before."""
    wanted, state = pair
    for operation in plan.diff(wanted, state):
        if isinstance(operation.thing, Device) and state.filters == wanted.filters:
            assert operation.thing.interface not in {gate.worker.interface for gate in state.gates}
        state = applied(state, operation)


@settings(max_examples=200, deadline=None)
@given(pairs())
def test_a_lookup_never_stands_without_what_is_behind_it(pair: tuple[State, State]) -> None:
    """A lookup rule is added behind its prohibit, and deleted before it."""
    wanted, state = pair
    for operation in plan.diff(wanted, state):
        state = applied(state, operation)
        thing = operation.thing
        if isinstance(thing, Rule) and thing.table is not None and operation.verb == "add":
            behind = {(rule.family, rule.uid, rule.source) for rule in state.rules if rule.table is None}
            assert (thing.family, thing.uid, thing.source) in behind


def test_cleanup_takes_the_table_away_last() -> None:
    """Nothing is wanted any more: gates are sealed first, the table that blocks goes last."""
    whole = desired(fleet_of(2), {1101: held_of(1, open_=True)}, kind="wireguard")
    operations = plan.diff(State(), whole)
    assert operations[0].verb == "seal"
    assert str(operations[-1]) == "nft delete table inet fleet"


def test_all_is_lowered_behind_every_other_interface() -> None:
    """rp_filter of others is raised to the effective value before `all` goes down."""
    observed = State(sysctls=frozenset({rp_filter("all", 1), rp_filter("eth0", 0), rp_filter("default", 2)}))
    texts = [str(one) for one in plan.diff(desired(fleet_of(1), {}, kind="tun"), observed) if one.verb == "set"]
    assert texts == [
        "sysctl -w net/ipv4/conf/eth0/rp_filter=1",
        "sysctl -w net/ipv4/conf/all/rp_filter=0",
    ]


def test_a_moved_endpoint_is_no_difference() -> None:
    """A server that answers from elsewhere is followed by the kernel; the plan does not fight it."""
    fleet, held = fleet_of(1), held_of(1, open_=True)
    moved = replace(held, endpoint=("203.0.113.99", 1))
    observed = desired(fleet, {1101: moved}, kind="wireguard")
    assert plan.diff(desired(fleet, {1101: held}, kind="wireguard"), observed) == ()


def test_a_link_goes_up_behind_its_ipv6_switch() -> None:
    """IPv6 is off before the link is up: no link-local address, no address event."""
    whole = desired(fleet_of(1), {}, kind="wireguard")
    texts = [str(one) for one in plan.diff(whole, State())]
    assert texts.index("sysctl -w net/ipv6/conf/wg101/disable_ipv6=1") < texts.index("ip link set wg101 up")


@given(pairs())
@settings(max_examples=100, deadline=None)
def test_plans_show_no_key(pair: tuple[State, State]) -> None:
    """No operation's text or repr holds a private key."""
    for operation in plan.diff(*pair):
        for number in range(1, 6):
            secret = Secret(bytes([number]) * 32)
            for text in (str(operation), repr(operation)):
                assert secret.reveal().hex() not in text
                assert repr(secret.reveal())[2:-1] not in text
