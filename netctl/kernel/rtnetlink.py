"""Parses rtnetlink messages: links, addresses, routes, rules (linux/rtnetlink.h, linux/fib_rules.h).

Dumps and notifications have the same format, so the same functions read both. Changes go through pyroute2
(netctl/kernel/changes.py). One read of the state of 200 workers is some 2,000 messages, which take 20 us each here and
1 ms each with pyroute2.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from fleet.isolation import HOST
from netctl.kernel.netlink import attribute, attributes, number, text
from netctl.plan.desired import LOCAL_TABLE
from netctl.plan.shortcut import Shortcut
from netctl.plan.things import Family, Link, Route, Rule

NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_RULE, DEL_RULE, GET_RULE = 32, 33, 34
NEW_NETCONF = 80

UNICAST, LOCAL, UNREACHABLE = 1, 2, 7
"""RTN_UNICAST, RTN_LOCAL, RTN_UNREACHABLE."""
TO_TABLE, GOTO, NOP, PROHIBIT = 1, 2, 3, 8
"""FR_ACT_TO_TBL, _GOTO, _NOP, _PROHIBIT."""
INVERT = 2
"""FIB_RULE_INVERT, a flag of a rule: it holds for what does not match."""
LINK_SCOPE, HOST_SCOPE, COMPAT_TABLE = 253, 254, 252
"""RT_SCOPE_LINK and _HOST; RT_TABLE_COMPAT, which the header has for every table above 255."""
IFF_UP = 1

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_EXT_MASK, _INFO_KIND = 3, 4, 18, 20, 29, 1
_SKIP_STATISTICS = struct.pack("=I", 8)
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_TENTATIVE = 1, 2, 0x40
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15
_ROUTE_EXTRAS = {2, 3, 5, 8, 9, 11, 16, 18, 21, 22, 25, 30}
"""Attributes for a source, a gateway, metrics, several hops, a mark: none of netctl's routes has one."""
_FRA_SRC, _FRA_GOTO, _FRA_PRIORITY, _FRA_TABLE, _FRA_UID_RANGE, _FRA_PROTOCOL = 2, 4, 6, 15, 20, 21
_RULE_EXTRAS = {1, 3, 4, 10, 11, 12, 16, 17, 19, 22, 23, 24, 25, 26, 27, 28, 29}
"""Attributes for a destination, an interface, a mark, ports: netctl's rules have none. Without suppressors (13, 14)."""
_FRA_SUPPRESS_LENGTH = 14
_NOTHING = 0xFFFFFFFF
_NETCONF_INDEX, _NETCONF_RP_FILTER = 1, 3

RULES = 8192
"""How many rules are remembered. 512 workers have 4,096, the same at each look; parsing them took a third of it."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg; struct fib_rule_hdr has the same layout, with the action in the place of the route's type."""


class AddressLine(NamedTuple):
    """An address of an interface, which is given by its index."""

    interface: int
    address: IPv4Address | IPv6Address
    prefix: int
    tentative: bool
    """The kernel still checks for duplicates, on lo too, and adds the local route after that (net/ipv6/addrconf.c)."""


def read_link(body: bytes, space: str = HOST) -> tuple[int, Link]:
    """The index and the link in a message of SPACE."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    return index, Link(
        interface=text(found.get(_IFLA_IFNAME)),
        kind=text(info.get(_INFO_KIND)) or "?",
        alias=text(found.get(_IFLA_IFALIAS)),
        mtu_bytes=number(found.get(_IFLA_MTU)),
        up=bool(flags & IFF_UP),
        space=space,
    )


def read_address(body: bytes) -> AddressLine:
    _, prefix, flags, _, index = _ADDRESS.unpack_from(body)
    found = dict(attributes(body[_ADDRESS.size :]))
    address = ip_address(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS])
    return AddressLine(index, address, prefix, bool(flags & _IFA_F_TENTATIVE))


def read_route(body: bytes, names: Mapping[int, str], space: str = HOST) -> tuple[Route, int]:
    """The route in a message of SPACE, and its prefix length (0: a default route). NAMES has the links by index."""
    family, prefix, source_prefix, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(body)
    found = dict(attributes(body[_ROUTE.size :]))
    plain = not source_prefix and kind in (UNICAST, UNREACHABLE) and not _ROUTE_EXTRAS & found.keys()
    source = found.get(_RTA_PREFSRC)
    route = Route(
        family=_version(family),
        # Tables above 255 do not fit into the header.
        table=number(found.get(_RTA_TABLE)) or table,
        # The kernel lists an IPv6 unreachable route as going through lo.
        interface=None if kind == UNREACHABLE else names.get(number(found.get(_RTA_OIF)), "?"),
        source=ip_address(source) if source else None,
        metric=number(found.get(_RTA_PRIORITY)),
        protocol=protocol,
        listed=b"" if plain else body,
        space=space,
    )
    return route, prefix


def read_local(body: bytes) -> IPv4Address | IPv6Address | None:
    """The address for which a route of the table `local` accepts packets; None for other routes and for networks."""
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    if (table, kind) != (LOCAL_TABLE, LOCAL) or prefix != (32 if family == socket.AF_INET else 128):
        return None
    return ip_address(dict(attributes(body[_ROUTE.size :]))[_RTA_DST])


def header_table(body: bytes) -> int:
    """The table in the header of a route's message; COMPAT_TABLE for all above 255."""
    return body[4]


@lru_cache(maxsize=RULES)
def read_rule(body: bytes, space: str = HOST) -> Rule:
    """The rule in a message of SPACE."""
    family, to_prefix, from_prefix, tos, table, _, _, action, flags = _ROUTE.unpack_from(body)
    found = dict(attributes(body[_ROUTE.size :]))
    uids = struct.unpack_from("=II", found[_FRA_UID_RANGE]) if _FRA_UID_RANGE in found else None
    source = found.get(_FRA_SRC, b"")
    # Some kernels list an unset number as 4294967295, others do not list it.
    suppressed = number(found.get(_FRA_SUPPRESS_LENGTH, b"\xff" * 4)) != _NOTHING
    odd = to_prefix or tos or flags or suppressed or _RULE_EXTRAS & found.keys()
    odd = odd or (uids and uids[0] != uids[1]) or action not in (TO_TABLE, PROHIBIT)
    odd = odd or from_prefix != 8 * len(source)
    return Rule(
        family=_version(family),
        priority=number(found.get(_FRA_PRIORITY)),
        uid=uids[0] if uids else None,
        source=ip_address(source) if source else None,
        table=(number(found.get(_FRA_TABLE)) or table) if action == TO_TABLE else None,
        protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
        listed=body if odd else b"",
        space=space,
    )


def read_shortcut(body: bytes) -> Shortcut:
    """The rule in a message, of the host and of a priority that only shortcuts have."""
    family, to_prefix, from_prefix, tos, _, _, _, action, flags = _ROUTE.unpack_from(body)
    found = dict(attributes(body[_ROUTE.size :]))
    uids = struct.unpack_from("=II", found[_FRA_UID_RANGE]) if _FRA_UID_RANGE in found else None
    source = found.get(_FRA_SRC)
    odd = to_prefix or tos or (_RULE_EXTRAS - {_FRA_GOTO}) & found.keys() or action not in (GOTO, NOP)
    odd = odd or bool(flags & INVERT) != bool(uids)
    # The kernel keeps the bits after the prefix.
    network = ip_network((source, from_prefix), strict=False) if source else None
    odd = odd or (network is not None and network.network_address.packed != source)
    return Shortcut(
        family=_version(family),
        priority=number(found.get(_FRA_PRIORITY)),
        source=network,
        but_uids=uids,
        goto=number(found.get(_FRA_GOTO)) if action == GOTO else None,
        listed=body if odd else b"",
    )


def _version(family: int) -> Family:
    return 6 if family == socket.AF_INET6 else 4


def read_rp_filter(body: bytes) -> tuple[int, int] | None:
    """(interface index, rp_filter) of a NETCONF message; None when it has no rp_filter. `all` is -1."""
    found = dict(attributes(body[4:]))
    if _NETCONF_RP_FILTER not in found or _NETCONF_INDEX not in found:
        return None
    (index,) = struct.unpack_from("=i", found[_NETCONF_INDEX])
    return index, number(found[_NETCONF_RP_FILTER])


def all_links() -> bytes:
    """The request for every link, without its counters."""
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _SKIP_STATISTICS)


def all_of(family: int) -> bytes:
    """The request for every address, route or rule of FAMILY."""
    return _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def link_name(index: int) -> str:
    """The name of this namespace's link INDEX; empty when there is none."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
