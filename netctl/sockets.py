"""Ends what a placeholder source still has in the kernel: conntrack entries and sockets.

Sockets end while the slot is sealed, between two leases: they would send on, and show both exits to be
one worker. Old conntrack entries would translate to the old address; the last chain of the table drops
that, so they may go a moment later. Raw netlink, because a delete has to
repeat the kernel's own bytes (the tuple, the socket's cookie) and because pyroute2 takes 1 ms an
entry where this takes 20 us.
"""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Iterable
from functools import partial
from ipaddress import IPv4Address
from typing import NamedTuple

from netctl.messages import NESTED, NETFILTER, SOCK_DIAG, Socket, attribute, attributes
from netctl.spaces import PerSpace, Spaces

CT_GET, CT_DELETE = 0x101, 0x102
"""NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, _DELETE (linux/netfilter/nfnetlink_conntrack.h)."""
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_IP_V4_SRC, CTA_IP_V4_DST, CTA_FILTER_ORIG_FLAGS, ORIG_SOURCE = 1, 1, 2, 1, 1
SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
ALL_STATES = 0xFFFFFFFF
MAPPED = bytes(10) + b"\xff\xff"
"""In front of an IPv4 address that an IPv6 socket uses (RFC 4291, 2.5.5.2)."""
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


class Source(NamedTuple):
    """A worker's placeholder, and the network namespace it is used in."""

    space: str
    address: IPv4Address


class Sockets:
    """One socket a protocol and a namespace, for the program's life; for one thread.

    Closing a netfilter socket behind a change of nftables waits for an RCU grace period, some 10 ms
    (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
    """

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._opened = {
            protocol: PerSpace(spaces, partial(_open, protocol), Socket.close) for protocol in (NETFILTER, SOCK_DIAG)
        }

    def forget_connections(self, source: Source, translated_to: IPv4Address | None = None) -> int:
        """Delete the conntrack entries that SOURCE began; their number. Raises OSError, SpaceGone.

        With TRANSLATED_TO only those of that leased address: the slot may be in use under the next one
        already. The kernel walks its whole table for the list, 12 ms with the usual 262,144 buckets.
        """
        opened = self._opened[NETFILTER]
        return self._spaces.inside(
            source.space, lambda: _forget_connections(opened.at(source.space), source.address, translated_to)
        )

    def end(self, sources: Iterable[Source]) -> int:
        """Abort TCP and UDP sockets bound to SOURCES (SOCK_DESTROY); their number. Raises OSError, SpaceGone.

        A kernel without CONFIG_INET_DIAG_DESTROY keeps them: they then end by their own time-outs.
        """
        together: dict[str, list[IPv4Address]] = {}
        for source in sources:
            together.setdefault(source.space, []).append(source.address)
        return sum(self._end(space, addresses) for space, addresses in together.items())

    def _end(self, space: str, addresses: list[IPv4Address]) -> int:
        opened = self._opened[SOCK_DIAG]
        return self._spaces.inside(space, lambda: _end_sockets(opened.at(space), addresses))


def _open(protocol: int, _space: str) -> Socket:
    return Socket(protocol)


def _forget_connections(asking: Socket, source: IPv4Address, translated_to: IPv4Address | None) -> int:
    entries = []
    for body in _dump(asking, CT_GET, _family_header() + _source_filter(source)):
        parts = dict(attributes(body[4:]))
        # Kernels before 5.8 know no filter.
        if _address_of(parts.get(CTA_TUPLE_ORIG, b""), CTA_IP_V4_SRC) != source.packed:
            continue
        seen_as = _address_of(parts.get(CTA_TUPLE_REPLY, b""), CTA_IP_V4_DST)
        if translated_to is None or seen_as == translated_to.packed:
            entries.append(parts)
    for found in entries:
        repeated = attribute(CTA_TUPLE_ORIG | NESTED, found[CTA_TUPLE_ORIG])
        repeated += b"".join(attribute(kind, found[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in found)
        _request(asking, CT_DELETE, _family_header() + repeated)
    return len(entries)


def _end_sockets(asking: Socket, sources: Iterable[IPv4Address]) -> int:
    count = 0
    packed = tuple(source.packed for source in sources)
    # An IPv6 socket may speak IPv4, under a mapped address; only a dump of its own family has it.
    bound = {socket.AF_INET: packed, socket.AF_INET6: tuple(MAPPED + address for address in packed)}
    for (family, addresses), protocol in itertools.product(bound.items(), (socket.IPPROTO_TCP, socket.IPPROTO_UDP)):
        head = struct.pack("=BBBBI", family, protocol, 0, 0, ALL_STATES)
        # The 48 bytes behind the state are the socket's identity: ports, addresses, interface, cookie.
        found = [body[4:52] for body in _dump(asking, SOCK_DIAG_BY_FAMILY, head + bytes(48))]
        ours = [identity for identity in found if identity[4:].startswith(addresses)]
        for identity in ours:
            if _request(asking, SOCK_DESTROY, head + identity) in UNSUPPORTED:
                return count
        count += len(ours)
    return count


def _dump(asking: Socket, kind: int, body: bytes) -> list[bytes]:
    try:
        return asking.dump(kind, body)
    except OSError as error:
        if error.errno in (errno.ENOENT, *UNSUPPORTED):
            return []  # this kernel has no such table, or no diag for this protocol
        raise


def _request(asking: Socket, kind: int, body: bytes) -> int:
    """0, or the errno of a kernel that cannot. Gone already is 0."""
    try:
        asking.request(kind, body)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return error.errno
        if error.errno != errno.ENOENT:
            raise
    return 0


def _family_header() -> bytes:
    return struct.pack("=BBH", socket.AF_INET, 0, 0)


def _source_filter(source: IPv4Address) -> bytes:
    address = attribute(CTA_IP_V4_SRC, source.packed)
    tuple_ = attribute(CTA_TUPLE_ORIG | NESTED, attribute(CTA_TUPLE_IP | NESTED, address))
    flags = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", ORIG_SOURCE))
    return tuple_ + attribute(CTA_FILTER | NESTED, flags)


def _address_of(tuple_: bytes, kind: int) -> bytes:
    addresses = dict(attributes(tuple_)).get(CTA_TUPLE_IP, b"")
    return dict(attributes(addresses)).get(kind, b"")
