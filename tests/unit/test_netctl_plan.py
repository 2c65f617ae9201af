"""The plan as a pure function: the orders that can be told by name, readable, silent about keys.

What must hold of every plan whatsoever is in test_netctl_properties.py.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from hypothesis import given, settings

from fleet.model import FIRST_UID, LAST_UID, Worker
from netctl.plan import diff
from netctl.plan.desired import desired, rp_filter
from netctl.plan.key import Endpoint, Secret
from netctl.plan.state import State
from netctl.plan.things import Device, Route, Rule, marks_of
from tests.contract.ground import fleet_of
from tests.fakes import after
from tests.states import Case, cases, held_of

few = settings(max_examples=100, deadline=None)


@few
@given(cases())
def test_a_device_is_never_changed_behind_an_open_gate(case: Case) -> None:
    """Whoever swaps a key or a peer has closed the gate before."""
    state = case.observed
    for operation in diff.diff(case.wanted, state):
        if isinstance(operation.thing, Device):
            assert operation.thing.interface not in {gate.interface for gate in state.gates}
        state = after(state, operation)


@few
@given(cases())
def test_a_lookup_never_stands_without_what_is_behind_it(case: Case) -> None:
    """A lookup rule is added behind its prohibit."""
    state = case.observed
    for operation in diff.diff(case.wanted, state):
        state = after(state, operation)
        thing = operation.thing
        if isinstance(thing, Rule) and thing.table == thing.priority and operation.verb == "add":
            behind = {(rule.family, rule.uid, rule.source) for rule in state.rules if rule.table is None}
            assert (thing.family, thing.uid, thing.source) in behind


@few
@given(cases())
def test_plans_show_no_key(case: Case) -> None:
    """No operation's text or repr holds a private key."""
    for operation in diff.diff(case.wanted, case.observed):
        for number in range(1, 9):
            secret = Secret(bytes([number]) * 32)
            for text in (str(operation), repr(operation)):
                assert secret.reveal().hex() not in text
                assert repr(secret.reveal())[2:-1] not in text


def test_cleanup_takes_the_table_away_last() -> None:
    """Nothing is wanted any more: gates are sealed first, the table that blocks goes last."""
    whole = desired(fleet_of(2), {1101: held_of(1, open_=True)}, kind="wireguard")
    operations = diff.diff(State(), whole)
    assert operations[0].verb == "seal"
    assert str(operations[-1]) == "nft delete table inet fleet"


def test_all_is_lowered_behind_every_other_interface() -> None:
    """rp_filter of others is raised to the effective value before `all` goes down."""
    observed = State(sysctls=frozenset({rp_filter("all", 1), rp_filter("eth0", 0), rp_filter("default", 2)}))
    texts = [str(one) for one in diff.diff(desired(fleet_of(1), {}, kind="tun"), observed) if one.verb == "set"]
    assert texts == [
        "sysctl -w net/ipv4/conf/eth0/rp_filter=1",
        "sysctl -w net/ipv4/conf/all/rp_filter=0",
    ]


def test_a_new_links_rp_filter_is_set_even_if_it_is_right() -> None:
    """One that was never set would follow `default`, which the plan sets for others; a known link's is left alone."""
    wanted = desired(fleet_of(1), {}, kind="tun")
    own = rp_filter("wg101", 0)
    assert own in wanted.sysctls and not diff.diff(wanted, wanted)
    made = replace(wanted, links=frozenset(replace(link, alias="") for link in wanted.links))
    assert own in [one.thing for one in diff.diff(wanted, made)]


def test_a_moved_endpoint_is_no_difference() -> None:
    """A server that answers from elsewhere is followed by the kernel; the plan does not fight it."""
    fleet, held = fleet_of(1), held_of(1, open_=True)
    moved = replace(held, endpoint=Endpoint("203.0.113.99", 1))
    observed = desired(fleet, {1101: moved}, kind="wireguard")
    assert diff.diff(desired(fleet, {1101: held}, kind="wireguard"), observed) == ()


def test_a_link_goes_up_behind_its_ipv6_switch() -> None:
    """IPv6 is off before the link is up: no link-local address, no address event."""
    whole = desired(fleet_of(1), {}, kind="wireguard")
    texts = [str(one) for one in diff.diff(whole, State())]
    assert texts.index("sysctl -w net/ipv6/conf/wg101/disable_ipv6=1") < texts.index("ip link set wg101 up")


def test_ipv6_comes_with_a_key_that_has_it() -> None:
    """No link-local address, then IPv6 on, then the route and the opening; an ordinary key takes them away again."""
    fleet, with_, without = fleet_of(1), held_of(1, open_=True), held_of(2, open_=True)
    assert (with_.key.address_v6, without.key.address_v6) == (IPv6Address("2001:db8:98:1::1"), None)
    plain = desired(fleet, {1101: without}, kind="wireguard")
    carried = desired(fleet, {1101: with_}, kind="wireguard")
    assert carried.addresses == plain.addresses
    assert carried.rules == plain.rules
    route = "default dev wg101 table 10101 src fd66:6c74:0:ffff::65 metric 1024 proto 77"
    whole = [str(one) for one in diff.diff(carried, State())]
    order = [
        "sysctl -w net/ipv6/conf/wg101/addr_gen_mode=1",
        "sysctl -w net/ipv6/conf/wg101/disable_ipv6=0",
        "ip link set wg101 up",
        f"ip -6 route add {route}",
    ]
    assert sorted(order, key=whole.index) == order
    assert "translation6" in whole[-1]
    back = [str(one) for one in diff.diff(plain, carried)]
    order = [f"ip -6 route delete {route}", "sysctl -w net/ipv6/conf/wg101/disable_ipv6=1"]
    assert sorted(order, key=back.index) == order
    assert "translation6" in back[0]
    assert "translation6" not in back[-1]
    assert "::/0" not in " ".join(back)


def test_a_kernel_without_ipv6_gets_none() -> None:
    """Started with ipv6.disable=1 there is nothing of IPv6 to make, whatever the key has."""
    whole = desired(fleet_of(1), {1101: held_of(1, open_=True)}, kind="wireguard", ipv6="absent")
    texts = " ".join(str(one) for one in diff.diff(whole, State()))
    assert not any(mark in texts for mark in ("ip -6", "ipv6", "::", "translation6"))


def test_where_an_administrator_turned_ipv6_off_it_is_blocked() -> None:
    """net.ipv6.conf.all.disable_ipv6: no address can be had, so none is asked for; rules and unreachables stay."""
    whole = desired(fleet_of(1), {1101: held_of(1, open_=True)}, kind="wireguard", ipv6="off")
    texts = " ".join(str(one) for one in diff.diff(whole, State()))
    assert "ip -6 rule add uidrange 1101-1101 prohibit" in texts
    assert "ip -6 route add unreachable default" in texts
    assert "disable_ipv6=1" in texts
    assert not any(mark in texts for mark in ("address add fd66", "default dev wg101 table 10101 src fd", "::/0"))


def test_what_stands_behind_goes_first() -> None:
    """A stray lookup in front of a stray route: the route goes first, or the rule's end would uncover it."""
    wanted = desired(fleet_of(1), {}, kind="wireguard")
    rule = Rule(family=4, priority=10_000, uid=1101, table=254)
    route = Route(family=4, table=10_101, interface="wg102")
    observed = replace(wanted, rules=wanted.rules | {rule}, routes=wanted.routes | {route})
    deleted = [one.thing for one in diff.diff(wanted, observed) if one.verb == "delete"]
    assert deleted == [route, rule]


def test_a_link_is_made_in_the_host_and_gets_its_address_where_it_goes() -> None:
    """Made and marked in the host, moved, IPv6 off, up, and only then an address and what prefers it as its source."""
    fleet = fleet_of(1, "netns")
    texts = [str(one) for one in diff.diff(desired(fleet, {}, kind="wireguard"), State())]
    inside = "ip -n fleet-w1101"
    order = [
        "ip netns add fleet-w1101",
        "ip netns exec fleet-w1101 nft -f - # table inet fleet: 1 workers held back",
        "ip link add wg101 type wireguard",
        "ip link set wg101 alias fleet:w1101 mtu 1420",
        "ip link set wg101 netns fleet-w1101",
        "ip netns exec fleet-w1101 sysctl -w net/ipv6/conf/wg101/disable_ipv6=1",
        f"{inside} link set wg101 up",
        f"{inside} address add 10.255.0.101/32 dev wg101 # and its route in table local",
        f"{inside} -4 route add default dev wg101 table 10101 src 10.255.0.101 proto 77",
    ]
    assert [text for text in texts if text in order] == order


def test_a_stray_link_in_the_host_goes_and_the_one_in_use_stays() -> None:
    """A link of a worker's name and mark in the host, while its own is in its space: only the stray one goes."""
    wanted = desired(fleet_of(1, "netns"), {1101: held_of(1, open_=True)}, kind="wireguard")
    (link,) = wanted.links
    observed = replace(wanted, links=wanted.links | {replace(link, space="")})
    assert [str(one) for one in diff.diff(wanted, observed) if one.verb == "delete"] == ["ip link delete wg101"]


def test_what_ends_with_a_space_is_not_deleted_singly() -> None:
    """Cleanup: gates are sealed and links deleted inside, then the space goes, and the host's table last of all."""
    whole = desired(fleet_of(1, "netns"), {1101: held_of(1, open_=True)}, kind="wireguard")
    texts = [str(one) for one in diff.diff(State(), whole)]
    assert texts[0].startswith("ip netns exec fleet-w1101 nft delete element")
    assert texts[1:] == [
        "ip -n fleet-w1101 link delete wg101",
        "ip netns delete fleet-w1101",
        "nft delete table inet fleet",
    ]


def test_no_two_workers_share_a_mark() -> None:
    """Names, numbers and addresses of one worker are no other's, whatever kind of object bears them."""
    found = [mark for uid in range(FIRST_UID, LAST_UID + 1) for mark in marks_of(Worker(uid=uid))]
    assert len(found) == len(set(found))
