"""Operations on links, addresses, routes and rules as rtnetlink's requests; blocking, for a thread of its own.

Idempotent by errno at the bottom: adding what is there and deleting what is gone are successes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from fleet.errors import FleetError
from netctl import rtnetlink, sysctls
from netctl.messages import CREATE, EXCL, Socket
from netctl.plan import Operation, Verb
from netctl.state import Address, Link, Route, Rule, Sysctl

_THERE = {errno.EEXIST}
_GONE = {errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL}
_NUMBERS = {4: socket.AF_INET, 6: socket.AF_INET6}


class KernelRefused(FleetError):
    """the kernel refused a change"""


def refused(operation: Operation, error: OSError) -> KernelRefused:
    """The kernel's refusal of OPERATION, by the name of its errno."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return KernelRefused(f"the kernel refused `{operation}`: {name}")


def apply(netlink: Socket, operations: Sequence[Operation]) -> None:
    """Apply OPERATIONS in order; raises KernelRefused at the first that the kernel does not take."""
    for operation in operations:
        try:
            _apply(netlink, operation)
        except OSError as error:
            raise refused(operation, error) from None


def _apply(netlink: Socket, operation: Operation) -> None:
    thing, verb = operation.thing, operation.verb
    if isinstance(thing, Link):
        _change_link(netlink, thing, verb)
    elif isinstance(thing, Address):
        _change_address(netlink, thing, verb)
    elif isinstance(thing, Route):
        _change_route(netlink, thing, verb)
    elif isinstance(thing, Rule):
        _change_rule(netlink, thing, verb)
    elif isinstance(thing, Sysctl):
        sysctls.write(thing)


def index_of(interface: str) -> int | None:
    """The index of a link; None when there is none of that name."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


def _change_link(netlink: Socket, link: Link, verb: Verb) -> None:
    if verb == "add":
        _request(netlink, rtnetlink.NEW_LINK, rtnetlink.link(0, name=link.interface, kind=link.kind), CREATE | EXCL)
        return
    index = index_of(link.interface)
    if index is None:
        return  # gone: the notification of that brings us back
    if verb == "up":
        netlink.request(rtnetlink.NEW_LINK, rtnetlink.link(index, up=True))
    else:
        netlink.request(rtnetlink.NEW_LINK, rtnetlink.link(index, alias=link.alias, mtu_bytes=link.mtu_bytes))


def _change_address(netlink: Socket, address: Address, verb: Verb) -> None:
    index = index_of(address.interface)
    if index is not None:
        body = rtnetlink.address(index, address.address.packed, address.prefix)
        _request(netlink, *_pair(verb, rtnetlink.NEW_ADDRESS, rtnetlink.DEL_ADDRESS, body))


def _change_route(netlink: Socket, route: Route, verb: Verb) -> None:
    index = 0
    if route.interface is not None and not route.listed:
        found = index_of(route.interface)
        if found is None:
            return
        index = found
    body = route.listed or rtnetlink.route(
        _NUMBERS[route.family], route.table, route.protocol, index=index, source=route.source, metric=route.metric
    )
    _request(netlink, *_pair(verb, rtnetlink.NEW_ROUTE, rtnetlink.DEL_ROUTE, body))


def _change_rule(netlink: Socket, rule: Rule, verb: Verb) -> None:
    uids = (rule.uid, rule.uid) if rule.uid is not None else None
    body = rule.listed or rtnetlink.rule(
        _NUMBERS[rule.family], rule.priority, rule.protocol, table=rule.table, uids=uids, source=rule.source
    )
    _request(netlink, *_pair(verb, rtnetlink.NEW_RULE, rtnetlink.DEL_RULE, body))


def _pair(verb: Verb, new: int, delete: int, body: bytes) -> tuple[int, bytes, int]:
    return (delete, body, 0) if verb == "delete" else (new, body, CREATE | EXCL)


def _request(netlink: Socket, kind: int, body: bytes, flags: int) -> None:
    """What is so already is a success."""
    try:
        netlink.request(kind, body, flags)
    except OSError as error:
        if error.errno not in (_THERE | _GONE):
            raise
