"""Checks the kernel's notifications: does one mean that an object of netctl's may not be as it should be?

The cheap checks come first: a busy host (Docker, a routing daemon) sends thousands of notifications a second that
do not concern netctl. Changes by netctl's own sockets are recognized by the sender's port. A link's changes have no
sender; they are checked by the state of the link after the change.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from fleet.model import PLACEHOLDERS_V6, PROTOCOL, Worker
from fleet.numbers import SHORTCUTS
from netctl.kernel import netlink, rtnetlink
from netctl.kernel.netlink import NETFILTER, ROUTE, Message
from netctl.kernel.observe import of_alias, of_priority
from netctl.plan.things import OWNED_TABLE, TABLE


class Kind(enum.Enum):
    """What may be wrong."""

    RULES = "rules"
    TABLES = "nftables"
    LINKS = "links"
    ADDRESSES = "addresses"
    ROUTES = "routes"
    SYSCTLS = "sysctls"
    LOST = "notifications lost"
    WAYS = "others' addresses and routes"
    """No object of netctl's is wrong, but the host may reach a server from another address now."""


LINK, ADDRESS4, ROUTE4, RULE4, ADDRESS6, ROUTE6, RULE6, NETCONF4 = 1, 5, 7, 8, 9, 11, 19, 24
"""RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE, _IPV4_NETCONF."""
NFTABLES = 7
"""NFNLGRP_NFTABLES."""
_SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES, the upper byte of a message's type."""
_TABLE_NAME = 1
"""The attribute with the table's name, the first in every nftables message."""
_OUR_TABLES = (TABLE.encode() + b"\0", OWNED_TABLE.encode() + b"\0")
READS_AT_ONCE = 64
"""After this many datagrams the program does its other work."""
_ALL_INTERFACES, _LATER_INTERFACES = -1, -2
"""NETCONFA_IFINDEX_ALL and _DEFAULT (linux/netconf.h). The kernel gives a new value of the latter to every interface
whose own was never written, without a word (devinet_copy_dflt_conf in net/ipv4/devinet.c)."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something of KIND may be wrong; for a link that appeared, disappeared or changed, its WORKER."""

    kind: Kind
    worker: Worker | None = None
    born: bool = False
    """The link has no mark yet: it has just been created."""


_WAYS = Sign(Kind.WAYS)


class Judge:
    """Decides what a message from one namespace means for the fleet of MEMBERS."""

    def __init__(
        self,
        members: Iterable[Worker],
        mtu_bytes: Callable[[Worker], int],
        name: Callable[[int], str],
        *,
        transit: bool = False,
        alone: bool = False,
    ) -> None:
        """MTU_BYTES returns the MTU that a worker's link should have now, NAME a link's name in the namespace.

        With TRANSIT, links are only created in this namespace and then moved to another.
        With ALONE, the namespace is one worker's own.
        """
        self._workers = {name: worker for worker in members for name in worker.interfaces}
        self._mtu_bytes = mtu_bytes
        self._transit, self._alone = transit, alone
        self._name = name
        self._own: dict[int, frozenset[int]] = {ROUTE: frozenset(), NETFILTER: frozenset()}

    def of_tables(self, message: Message) -> Sign | None:
        """The sign in an nfnetlink message: another program has changed one of netctl's tables."""
        if message.kind >> 8 != _SUBSYSTEM:
            return None
        for kind, value in netlink.attributes(message.body[4:40]):
            if kind == _TABLE_NAME:
                return Sign(Kind.TABLES) if value in _OUR_TABLES and self._foreign(NETFILTER, message) else None
        return None

    def of_routing(self, message: Message) -> Sign | None:
        """The sign in an rtnetlink message."""
        kind, body = message.kind, message.body
        if kind in (rtnetlink.NEW_LINK, rtnetlink.DEL_LINK):
            return self._of_link(message)
        if kind == rtnetlink.NEW_NETCONF:
            return self._of_filtering(body)
        found: Kind | None = None
        if kind in (rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE):
            found = Kind.ROUTES if self._our_route(kind, body) else Kind.WAYS
        elif kind in (rtnetlink.NEW_RULE, rtnetlink.DEL_RULE):
            found = Kind.RULES if self._our_rule(body) else None
        elif kind in (rtnetlink.NEW_ADDRESS, rtnetlink.DEL_ADDRESS) and not self._is_placed(kind, body):
            found = Kind.ADDRESSES if self._our_address(body) else Kind.WAYS
        if found is Kind.WAYS:
            return _WAYS
        return Sign(found) if found and self._foreign(ROUTE, message) else None

    def _foreign(self, protocol: int, message: Message) -> bool:
        """Whether another program caused MESSAGE. netctl's own ports are looked up again for an unknown sender."""
        if message.sender in self._own[protocol]:
            return False
        self._own[protocol] = netlink.own_ports(protocol)
        return message.sender not in self._own[protocol]

    def _of_link(self, message: Message) -> Sign | None:
        _, link = rtnetlink.read_link(message.body)
        if self._alone and link.interface == "lo":
            return None if link.up else Sign(Kind.LINKS)
        worker = self._workers.get(link.interface) or of_alias(link.alias)
        if worker is None or (message.sender and not self._foreign(ROUTE, message)):
            return None
        as_it_should = link.alias == worker.alias and link.up and link.mtu_bytes == self._mtu_bytes(worker)
        made = message.kind == rtnetlink.NEW_LINK
        if self._transit and not (made and not link.alias):
            return None  # the link is being moved
        if made and as_it_should and link.interface in self._workers:
            return None
        return Sign(Kind.LINKS, worker, born=made and not link.alias)

    def _of_filtering(self, body: bytes) -> Sign | None:
        found = rtnetlink.read_rp_filter(body)
        if found is None or found[1] == 0:
            return None
        ours = found[0] in (_ALL_INTERFACES, _LATER_INTERFACES) or (
            found[0] > 0 and self._name(found[0]) in self._workers
        )
        return Sign(Kind.SYSCTLS) if ours else None

    def _our_route(self, kind: int, body: bytes) -> bool:
        if local := rtnetlink.read_local(body):
            return kind == rtnetlink.DEL_ROUTE and self._is_ours(local)
        # Tables above 255 do not fit into the header.
        above = rtnetlink.header_table(body) == rtnetlink.COMPAT_TABLE
        return above and of_priority(rtnetlink.read_route(body, {})[0].table) is not None

    def _our_rule(self, body: bytes) -> bool:
        line = rtnetlink.read_rule(body)
        among = SHORTCUTS[0] <= line.priority <= SHORTCUTS[-1]
        return line.protocol == PROTOCOL or among or (self._alone and not line.priority)

    def _our_address(self, body: bytes) -> bool:
        line = rtnetlink.read_address(body)
        return self._is_ours(line.address) or self._name(line.interface) in self._workers

    def _is_placed(self, kind: int, body: bytes) -> bool:
        """Whether an IPv6 placeholder was added where netctl has it: the notification of IPv6 names no sender
        (inet6_ifa_notify in net/ipv6/addrconf.c), and after netctl's own start no look is needed."""
        line = rtnetlink.read_address(body)
        whole = line.address in PLACEHOLDERS_V6 and line.prefix == line.address.max_prefixlen
        return kind == rtnetlink.NEW_ADDRESS and whole and self._name(line.interface) == "lo"

    def _is_ours(self, address: IPv4Address | IPv6Address) -> bool:
        return Worker.of_placeholder(address) is not None or (self._alone and address.is_loopback)


class Notifications:
    """Two sockets per namespace that receive all notifications; calls HEARD with those that matter."""

    def __init__(self, heard: Callable[[Sign], None]) -> None:
        self._heard = heard
        self._sockets: dict[str, list[socket.socket]] = {}

    def open(self, space: str, judge: Judge, inside: Callable[[Callable[[], None]], None]) -> None:
        """Listen to SPACE in the running loop; INSIDE runs a function in that namespace. Raises OSError."""
        self.close(space)
        opened = self._sockets[space] = []
        groups = (LINK, ADDRESS4, ROUTE4, RULE4, ADDRESS6, ROUTE6, RULE6, NETCONF4)
        inside(lambda: opened.extend((netlink.listen(ROUTE, groups), netlink.listen(NETFILTER, (NFTABLES,)))))
        for listening, judged in zip(opened, (judge.of_routing, judge.of_tables), strict=True):
            asyncio.get_running_loop().add_reader(listening, self._read, listening, judged)

    def close(self, space: str | None = None) -> None:
        """Stop listening to SPACE (None: to all)."""
        for name in [*self._sockets] if space is None else [space]:
            for listening in self._sockets.pop(name, []):
                asyncio.get_running_loop().remove_reader(listening)
                listening.close()

    def _read(self, listening: socket.socket, judge: Callable[[Message], Sign | None]) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                data = listening.recv(netlink.LONGEST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                # The socket's buffer has overflowed, so anything may have changed.
                self._heard(Sign(Kind.LOST))
                return
            for message in netlink.messages(data):
                if sign := judge(message):
                    self._heard(sign)
