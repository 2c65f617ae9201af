"""Operations on links, addresses, routes, rules and sysctls, mostly through pyroute2; they block and need a thread.

They are idempotent by errno: adding an object that exists and deleting one that does not are successes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import singledispatchmethod
from ipaddress import ip_network
from typing import Any

from fleet.errors import FleetError, KernelRefused
from fleet.imports import bare
from fleet.isolation import HOST
from fleet.model import PROTOCOL
from netctl.kernel import rtnetlink
from netctl.kernel.netlink import ROUTE, Socket
from netctl.plan.desired import KERNEL_PROTOCOL, LOCAL_TABLE, disable_ipv6
from netctl.plan.diff import Operation
from netctl.plan.shortcut import Shortcut
from netctl.plan.things import Address, Link, Route, Rule, Sysctl, Thing, Verb

with bare("pyroute2"):
    from pyroute2.iproute import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

_THERE = {errno.EEXIST}
_GONE = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL}
_NUMBERS = {4: socket.AF_INET, 6: socket.AF_INET6}


def refused(operation: Operation, code: int) -> KernelRefused:
    """The kernel's refusal of OPERATION, by the name of its errno."""
    return KernelRefused(f"the kernel refused `{operation}`: {errno.errorcode.get(code, code)}")


def _fine(operation: Operation) -> set[int]:
    """The errnos that count as success. A move fails with EEXIST: the name is in use in the target namespace."""
    return _GONE if operation.verb == "move" else _THERE | _GONE


def index_of(interface: str) -> int | None:
    """The index of the link called INTERFACE; None when there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


class Changes:
    """pyroute2's socket, and a raw one for deletions that repeat the kernel's own bytes. For one thread."""

    def __init__(self, descriptor: Callable[[str], int]) -> None:
        """DESCRIPTOR returns an open file for a namespace's name."""
        self._descriptor = descriptor
        self._ip = IPRoute()
        self._raw = Socket(ROUTE)

    def close(self) -> None:
        self._ip.close()
        self._raw.close()

    def apply(self, operations: Sequence[Operation]) -> None:
        """Apply OPERATIONS in order; raises KernelRefused at the first that the kernel refuses."""
        for operation in operations:
            try:
                self._change(operation.thing, operation.verb)
            except NetlinkError as error:
                if error.code not in _fine(operation):
                    raise refused(operation, error.code) from None
            except OSError as error:
                if error.errno not in _fine(operation):
                    raise refused(operation, error.errno or 0) from None

    @singledispatchmethod
    def _change(self, thing: Thing, verb: Verb) -> None:
        raise TypeError(f"{verb} {thing!r}")

    @_change.register
    def _change_sysctl(self, sysctl: Sysctl, _verb: Verb) -> None:
        # With CAP_NET_ADMIN in the network namespace an ordinary user may write net sysctls (net_ctl_permissions in
        # net/sysctl_net.c).
        try:
            sysctl.file.write_text(str(sysctl.value))
        except FileNotFoundError:
            return  # the interface has been deleted meanwhile
        except OSError as error:
            raise FleetError(
                f"{sysctl.file} cannot be set to {sysctl.value}: {error.strerror}",
                hint="a read-only /proc/sys (a container?) has to be made writable",
            ) from error

    @_change.register
    def _change_link(self, link: Link, verb: Verb) -> None:
        if verb == "add":
            self._ip.link("add", ifname=link.interface, kind=link.kind)
            return
        index = index_of(link.interface)
        if index is None:
            return  # deleted: its notification starts a repair
        if verb == "move":
            # Needs only CAP_NET_ADMIN, in both namespaces (rtnl_link_get_net_capable in net/core/rtnetlink.c).
            self._ip.link("set", index=index, net_ns_fd=self._descriptor(link.space))
        elif verb == "up":
            self._ip.link("set", index=index, state="up")
        else:
            self._ip.link("set", index=index, ifalias=link.alias, mtu=link.mtu_bytes)

    @_change.register
    def _change_address(self, address: Address, verb: Verb) -> None:
        index = index_of(address.interface)
        if index is None:
            return
        spec = {"index": index, "address": str(address.address), "prefixlen": address.prefix}
        if verb == "delete":
            self._ip.addr("del", **spec)
            self._change_local("del", address, index)
            return
        if address.interface == "lo" and address.space != HOST:
            self._ip.link("set", index=index, state="up")
            if address.address.version == 6:  # turned off there, it takes no address
                self._change(disable_ipv6("lo", address.space, off=False), "set")
        try:
            self._ip.addr("add", scope=rtnetlink.HOST_SCOPE if address.address.is_loopback else 0, **spec)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            # Added again it would be an address event for every browser.
            self._change_local("add", address, index)

    def _change_local(self, word: str, address: Address, index: int) -> None:
        """The routes by which the kernel takes packets to ADDRESS in; it makes them with the address, and no later."""
        spec: dict[str, Any] = {"table": LOCAL_TABLE, "type": "local", "proto": KERNEL_PROTOCOL, "oif": index}
        if address.address.version == 4:
            spec |= {"scope": rtnetlink.HOST_SCOPE, "prefsrc": str(address.address)}
        whole = ip_network(f"{address.address}/{address.prefix}", strict=False)
        for network in dict.fromkeys((ip_network(address.address), whole)):
            self._ip.route(word, family=_NUMBERS[address.address.version], dst=str(network), **spec)

    @_change.register
    def _change_route(self, route: Route, verb: Verb) -> None:
        if route.listed:
            self._raw.request(rtnetlink.DEL_ROUTE, route.listed)
            return
        spec: dict[str, Any] = {"family": _NUMBERS[route.family], "table": route.table, "dst": "default"}
        spec["proto"] = route.protocol
        if route.interface is None:
            spec["type"] = "unreachable"
        elif (index := index_of(route.interface)) is None:
            return
        else:
            spec |= {"oif": index, "scope": rtnetlink.LINK_SCOPE}
        if route.source is not None:
            spec["prefsrc"] = str(route.source)
        if route.metric:
            spec["priority"] = route.metric
        self._ip.route("del" if verb == "delete" else "add", **spec)

    @_change.register
    def _change_rule(self, rule: Rule, verb: Verb) -> None:
        """The kernel deletes the first rule that has all given attributes, so a deletion gives all that netctl sets."""
        if rule.listed:
            self._raw.request(rtnetlink.DEL_RULE, rule.listed)
            return
        spec: dict[str, Any] = {"family": _NUMBERS[rule.family], "priority": rule.priority, "protocol": rule.protocol}
        if rule.uid is not None:
            spec["uid_range"] = f"{rule.uid}:{rule.uid}"
        if rule.source is not None:
            spec |= {"src": str(rule.source), "src_len": rule.source.max_prefixlen}
        spec |= {"table": rule.table} if rule.table is not None else {"action": "prohibit"}
        self._ip.rule("del" if verb == "delete" else "add", **spec)

    @_change.register
    def _change_shortcut(self, rule: Shortcut, verb: Verb) -> None:
        """A deletion deletes every rule of netctl's with this priority, and ends with ENOENT (see _change_rule)."""
        spec: dict[str, Any] = {"family": _NUMBERS[rule.family], "priority": rule.priority, "protocol": PROTOCOL}
        while verb == "delete":
            self._ip.rule("del", **spec)
        spec["action"] = "nop"
        if rule.source is not None:
            spec |= {"src": str(rule.source.network_address), "src_len": rule.source.prefixlen}
        if rule.but_uids is not None:
            spec |= {"uid_range": "{}:{}".format(*rule.but_uids), "flags": rtnetlink.INVERT}
        if rule.goto is not None:
            spec |= {"action": "goto", "goto": rule.goto}
        self._ip.rule("add", **spec)
