"""What a notification means: the kernel's own bytes, judged."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from ipaddress import IPv4Address, ip_address

import pytest

from fleet.model import PROTOCOL, Worker
from netctl.kernel import netlink, rtnetlink
from netctl.kernel.netlink import Message, attribute
from netctl.kernel.notifications import Judge, Kind, Sign
from netctl.kernel.observe import of_alias, of_priority
from netctl.threads import WorkThread

WORKER = Worker(uid=1101)
STRANGER = 4242
"""A netlink port that is not ours."""
NEW_TABLE, NEW_RULE, NEW_ELEMENT = 0xA00, 0xA06, 0xA0C


@pytest.fixture
def judge() -> Judge:
    """One worker's fleet."""
    return Judge([WORKER], lambda _: 1420, rtnetlink.link_name)


@pytest.fixture
def alone() -> Judge:
    """The worker's, in its own namespace."""
    return Judge([WORKER], lambda _: 1420, rtnetlink.link_name, alone=True)


def told(kind: int, body: bytes, sender: int = STRANGER) -> Message:
    """A notification."""
    return Message(kind=kind, flags=0, sequence=0, sender=sender, body=body)


def u32(value: int) -> bytes:
    """In the host's order."""
    return struct.pack("=I", value)


def link(name: str, alias: str, *, up: bool = True, mtu_bytes: int = 1420) -> bytes:
    """A link's message (struct ifinfomsg, IFLA_IFNAME, IFLA_MTU, IFLA_IFALIAS)."""
    body = (
        struct.pack("=BxHiII", 0, 0, 7, int(up), 0) + attribute(3, name.encode() + b"\0") + attribute(4, u32(mtu_bytes))
    )
    return body + (attribute(20, alias.encode() + b"\0") if alias else b"")


def rule(priority: int, protocol: int, table: int, *, uids: tuple[int, int] | None = None, more: bytes = b"") -> bytes:
    """A rule's message (struct fib_rule_hdr): a table above 255 stands in FRA_TABLE, the header says 252."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, min(table, 252), 0, 0, rtnetlink.TO_TABLE, 0)
    body += attribute(6, u32(priority)) + attribute(15, u32(table)) + attribute(21, bytes([protocol]))
    # The kernel lists a suppressor that is not set as 4294967295.
    body += attribute(14, u32(0xFFFFFFFF))
    return body + (attribute(20, struct.pack("=II", *uids)) if uids else b"") + more


def route(table: int, protocol: int = PROTOCOL) -> bytes:
    """A default route's message (struct rtmsg)."""
    return struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, min(table, 252), protocol, 0, 1, 0) + attribute(
        15, u32(table)
    )


def local(address: str) -> bytes:
    """The message of an address's own route."""
    packed = IPv4Address(address).packed
    return struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 255, 2, 254, 2, 0) + attribute(1, packed)


def address(text: str, interface: str = "lo") -> bytes:
    """An address's message (struct ifaddrmsg, IFA_ADDRESS)."""
    found = ip_address(text)
    family = socket.AF_INET6 if found.version == 6 else socket.AF_INET
    head = struct.pack(
        "=BBBBI", family, found.max_prefixlen, 0, 0, socket.if_nametoindex(interface) if interface else 0
    )
    return head + attribute(1, found.packed)


def of_table(name: str) -> bytes:
    """A message of nftables: struct nfgenmsg, then the table's name."""
    return b"\x01\0\0\0" + attribute(1, name.encode() + b"\0")


@pytest.mark.parametrize("name", ["fleet", "fleet_hold"])
@pytest.mark.parametrize("kind", [NEW_TABLE, NEW_RULE, NEW_ELEMENT])
def test_a_change_of_our_tables_is_a_sign(judge: Judge, kind: int, name: str) -> None:
    """Whatever of nftables changes in one of our tables, and nothing else."""
    assert judge.of_tables(told(kind, of_table(name))) == Sign(Kind.TABLES)


@pytest.mark.parametrize("name", ["docker", "fleet2", "fleet_shape_77", "flee", ""])
def test_others_tables_are_nothing(judge: Judge, name: str) -> None:
    """A name that only looks like ours is somebody else's."""
    assert judge.of_tables(told(NEW_RULE, of_table(name))) is None


def test_own_changes_are_told_by_their_sender(judge: Judge) -> None:
    """What a socket of this process has caused is no news, whichever library opened it."""
    ours = netlink.Socket(netlink.NETFILTER)
    try:
        (port,) = netlink.own_ports(netlink.NETFILTER)
        assert judge.of_tables(told(NEW_RULE, of_table("fleet"), port)) is None
        assert judge.of_tables(told(NEW_RULE, of_table("fleet"), port + 1)) == Sign(Kind.TABLES)
    finally:
        ours.close()


@pytest.mark.parametrize(
    ("body", "sign"),
    [
        (link("wg101", "fleet:w1101"), None),
        (link("wg101s", "fleet:w1101"), None),
        (link("wg101", "fleet:w1101", up=False), Sign(Kind.LINKS, WORKER)),
        (link("wg101", "fleet:w1101", mtu_bytes=1300), Sign(Kind.LINKS, WORKER)),
        (link("wg101", "mine"), Sign(Kind.LINKS, WORKER)),
        (link("wg101", "", up=False), Sign(Kind.LINKS, WORKER, born=True)),
        (link("other9", "fleet:w1101"), Sign(Kind.LINKS, WORKER)),
        (link("eth0", ""), None),
        (link("wg102", ""), None),
    ],
)
def test_a_link_is_judged_by_what_it_is(judge: Judge, body: bytes, sign: Sign | None) -> None:
    """The kernel does not tell who changed a link: one that is as it should be is nothing."""
    assert judge.of_routing(told(rtnetlink.NEW_LINK, body, 0)) == sign


def test_a_link_that_goes_is_a_sign(judge: Judge) -> None:
    """However right it was."""
    assert judge.of_routing(told(rtnetlink.DEL_LINK, link("wg101", "fleet:w1101"), 0)) == Sign(Kind.LINKS, WORKER)


def test_rules_and_routes_in_our_range_are_signs(judge: Judge) -> None:
    """By protocol or by priority, with table numbers above 255; the main table's and others' are nothing."""
    ours = rule(10101, PROTOCOL, 10101, uids=(1101, 1101))
    assert judge.of_routing(told(rtnetlink.DEL_RULE, ours)) == Sign(Kind.RULES)
    assert judge.of_routing(told(rtnetlink.NEW_RULE, rule(20101, 0, 254))) == Sign(Kind.RULES)
    assert judge.of_routing(told(rtnetlink.NEW_RULE, rule(5000, 42, 999))) is None
    assert judge.of_routing(told(rtnetlink.DEL_ROUTE, route(10101))) == Sign(Kind.ROUTES)
    assert judge.of_routing(told(rtnetlink.DEL_ROUTE, route(254, 2))) == Sign(Kind.WAYS)
    assert judge.of_routing(told(rtnetlink.DEL_ROUTE, route(3000, 2))) == Sign(Kind.WAYS)


def test_a_lost_route_of_the_table_local_is_a_sign(judge: Judge, alone: Judge) -> None:
    """Of a placeholder wherever it is; of the loopback, as its link and the first rule, in a worker's own namespace."""
    first, down = rule(0, 2, 255), link("lo", "", up=False)
    assert judge.of_routing(told(rtnetlink.DEL_ROUTE, local("10.255.0.101"))) == Sign(Kind.ROUTES)
    assert judge.of_routing(told(rtnetlink.NEW_ROUTE, local("10.255.0.101"))) == Sign(Kind.WAYS)
    assert judge.of_routing(told(rtnetlink.DEL_ROUTE, local("127.0.0.1"))) == Sign(Kind.WAYS)
    assert judge.of_routing(told(rtnetlink.DEL_RULE, first)) is judge.of_routing(told(rtnetlink.NEW_LINK, down)) is None
    assert alone.of_routing(told(rtnetlink.DEL_ROUTE, local("127.0.0.1"))) == Sign(Kind.ROUTES)
    assert alone.of_routing(told(rtnetlink.DEL_RULE, first)) == Sign(Kind.RULES)
    assert alone.of_routing(told(rtnetlink.NEW_LINK, down)) == Sign(Kind.LINKS)
    assert alone.of_routing(told(rtnetlink.NEW_LINK, link("lo", ""))) is None


def test_an_ipv6_placeholder_that_was_added_to_lo_is_nothing(judge: Judge) -> None:
    """The kernel does not tell who added an IPv6 address, and netctl adds one for each worker when it starts.

    Elsewhere it is a sign, as is one that goes, and one of IPv4, whose notification names its sender.
    """
    placed = str(WORKER.placeholder_v6)
    assert judge.of_routing(told(rtnetlink.NEW_ADDRESS, address(placed), 0)) is None
    assert judge.of_routing(told(rtnetlink.NEW_ADDRESS, address(placed, ""), 0)) == Sign(Kind.ADDRESSES)
    assert judge.of_routing(told(rtnetlink.DEL_ADDRESS, address(placed), 0)) == Sign(Kind.ADDRESSES)
    assert judge.of_routing(told(rtnetlink.NEW_ADDRESS, address("10.255.0.101"))) == Sign(Kind.ADDRESSES)


def test_rp_filter_of_all_and_of_others(judge: Judge) -> None:
    """Only what makes an address-less link unusable: `all` above 0, or `default`, which the kernel spreads."""

    def body(index: int, value: int) -> bytes:
        return b"\x02\0\0\0" + attribute(1, struct.pack("=i", index)) + attribute(3, u32(value))

    for index in (-1, -2):
        assert judge.of_routing(told(rtnetlink.NEW_NETCONF, body(index, 1), 0)) == Sign(Kind.SYSCTLS)
    for index, value in ((-1, 0), (-2, 0), (1, 2)):
        assert judge.of_routing(told(rtnetlink.NEW_NETCONF, body(index, value), 0)) is None


def test_a_rules_table_is_read_from_its_attribute() -> None:
    """Above 255 the header says 252, and an unset suppressor is listed: such a rule is a plain one."""
    line = rtnetlink.read_rule(rule(10101, PROTOCOL, 10101, uids=(1101, 1101)))
    assert (line.table, line.uid, line.priority, line.listed) == (10101, 1101, 10101, b"")


@pytest.mark.parametrize(
    "body",
    [
        rule(10101, PROTOCOL, 10101, uids=(1101, 1200)),
        rule(10101, PROTOCOL, 10101, uids=(1101, 1101), more=attribute(3, b"lo\0")),
        rule(10101, PROTOCOL, 10101, uids=(1101, 1101), more=attribute(10, u32(1))),
    ],
)
def test_a_rule_with_more_to_it_keeps_the_kernels_words(body: bytes) -> None:
    """Otherwise it would be taken for ours, and deleting it would delete ours."""
    assert rtnetlink.read_rule(body).listed == body


@pytest.mark.parametrize("uid", [1001, 1101, 9999])
def test_marks_lead_back_to_their_worker(uid: int) -> None:
    """Alias, table and both priorities; numbers outside the range belong to no slot."""
    worker = Worker(uid=uid)
    assert of_alias(worker.alias) == of_priority(worker.table) == of_priority(worker.prohibit_priority) == worker
    for alias in ("fleet:w1000", "fleet:w01101", "fleet:w11015", "fleet:w1101 ", "leet:w1101", ""):
        assert of_alias(alias) is None
    for number in (0, 254, 10000, 19000, 20000, 29000, 32766):
        assert of_priority(number) is None


def test_a_call_that_hangs_is_given_up_and_keeps_its_turn() -> None:
    """Whoever waits gets a time-out; what comes behind it begins when it has ended, so that order is kept."""
    release, order = threading.Event(), list[str]()

    def hang() -> str:
        release.wait(10)
        order.append("first")
        return "late"

    async def scenario() -> None:
        lane = WorkThread("test")
        with pytest.raises(asyncio.TimeoutError):
            await lane.run(hang, 0.05)
        with pytest.raises(asyncio.TimeoutError):
            await lane.run(lambda: order.append("given up before it began"), 0.05)
        release.set()
        assert await lane.run(lambda: order.append("second") or "fresh", 5) == "fresh"  # type: ignore[func-returns-value]
        lane.close()

    asyncio.run(scenario())
    assert order == ["first", "second"]


def test_addresses_of_placeholders_are_signs_wherever_they_are(judge: Judge) -> None:
    """Ours on `lo`, or a stranger's; any other address matters on our links alone."""

    def body(address: str, index: int) -> bytes:
        return struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, index) + attribute(2, IPv4Address(address).packed)

    assert judge.of_routing(told(rtnetlink.DEL_ADDRESS, body("10.255.0.101", 1))) == Sign(Kind.ADDRESSES)
    assert judge.of_routing(told(rtnetlink.NEW_ADDRESS, body("192.0.2.1", 1))) == Sign(Kind.WAYS)
