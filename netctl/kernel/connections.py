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
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from netctl.kernel.netlink import NESTED, NETFILTER, SOCK_DIAG, Socket, attribute, attributes
from netctl.kernel.setns import PerSpace, Spaces

CT_GET, CT_DELETE = 0x101, 0x102
"""NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, _DELETE (linux/netfilter/nfnetlink_conntrack.h)."""
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_FILTER_ORIG_FLAGS, ORIG_SOURCE = 1, 1, 1
_TUPLE_ADDRESSES = {4: (1, 2), 6: (3, 4)}
"""CTA_IP_V4_SRC and _DST, CTA_IP_V6_SRC and _DST."""
SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
ALL_STATES = 0xFFFFFFFF
MAPPED = bytes(10) + b"\xff\xff"
"""In front of an IPv4 address that an IPv6 socket uses (RFC 4291, 2.5.5.2)."""
AnyAddress = IPv4Address | IPv6Address
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


class Source(NamedTuple):
    """A worker's placeholders, and the network namespace they are used in."""

    space: str
    address: IPv4Address
    address_v6: IPv6Address


Leased = tuple[IPv4Address, "IPv6Address | None"]
"""What an earlier lease's addresses were."""


class Sweep(NamedTuple):
    """The conntrack entries that SOURCE began; with TRANSLATED_TO only those of that leased address.

    The slot may be in use under the next one already.
    """

    source: Source
    translated_to: Leased | None = None

    def addresses(self) -> Iterator[tuple[AnyAddress, AnyAddress | None]]:
        """What began them, and what it was translated to; under a lease without IPv6 there is nothing of IPv6."""
        own: tuple[AnyAddress, ...] = (self.source.address, self.source.address_v6)
        for source, leased in zip(own, self.translated_to or (None, None), strict=True):
            if self.translated_to is None or leased is not None:
                yield source, leased


class Connections:
    """One socket a protocol and a namespace, for the program's life; for one thread.

    Closing a netfilter socket after a change of nftables waits for an RCU grace period, some 10 ms
    (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
    """

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._opened = {
            protocol: PerSpace(spaces, partial(_open, protocol), Socket.close) for protocol in (NETFILTER, SOCK_DIAG)
        }

    def end_tracked(self, sweeps: Iterable[Sweep]) -> int:
        """Delete the conntrack entries of SWEEPS; their number. Raises OSError, SpaceGone.

        The kernel walks its whole table for the list, 12 ms with the usual 262,144 buckets: one walk a family and
        a namespace is for all that come together.
        """
        together: dict[str, list[Sweep]] = {}
        for sweep in sweeps:
            together.setdefault(sweep.source.space, []).append(sweep)
        return sum(self._end_tracked(space, found) for space, found in together.items())

    def _end_tracked(self, space: str, sweeps: list[Sweep]) -> int:
        opened = self._opened[NETFILTER]
        pairs = [pair for sweep in sweeps for pair in sweep.addresses()]
        families = [[pair for pair in pairs if pair[0].version == version] for version in (4, 6)]
        return self._spaces.inside(
            space, lambda: sum(_end_tracked(opened.at(space), wanted) for wanted in families if wanted)
        )

    def end_sockets(self, sources: Iterable[Source]) -> int:
        """Abort TCP and UDP sockets bound to SOURCES (SOCK_DESTROY); their number. Raises OSError, SpaceGone.

        A kernel without CONFIG_INET_DIAG_DESTROY keeps them: they then end by their own time-outs.
        """
        together: dict[str, list[Source]] = {}
        for source in sources:
            together.setdefault(source.space, []).append(source)
        return sum(self._end_sockets(space, found) for space, found in together.items())

    def _end_sockets(self, space: str, sources: list[Source]) -> int:
        opened = self._opened[SOCK_DIAG]
        return self._spaces.inside(space, lambda: _end_sockets(opened.at(space), sources))


def _open(protocol: int, _space: str) -> Socket:
    return Socket(protocol)


def _end_tracked(asking: Socket, wanted: Sequence[tuple[AnyAddress, AnyAddress | None]]) -> int:
    """WANTED, all of one family: what began the connections, and what it was translated to."""
    first = wanted[0][0]
    entries, head = [], struct.pack("=BBH", socket.AF_INET if first.version == 4 else socket.AF_INET6, 0, 0)
    from_, to = _TUPLE_ADDRESSES[first.version]
    pairs = {(source.packed, leased.packed if leased else b"") for source, leased in wanted}
    ours = re.compile(b"|".join({re.escape(source) for source, _ in pairs}), re.DOTALL)
    # For IPv6 the kernel's filter returns every entry but those asked for, so it is not asked to filter:
    # ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c takes ipv6_addr_cmp() for "equal".
    # It takes one address, and kernels before 5.8 know none.
    alone = len({source for source, _ in pairs}) == 1
    asked = _source_filter(first) if alone and isinstance(first, IPv4Address) else b""
    for body in _dump(asking, CT_GET, head + asked):
        if not ours.search(body):
            continue  # 100,000 entries of others take a tenth of a second so, and ten times that read whole
        parts = dict(attributes(body[4:]))
        source = _address_of(parts.get(CTA_TUPLE_ORIG, b""), from_)
        seen_as = _address_of(parts.get(CTA_TUPLE_REPLY, b""), to)
        if not pairs.isdisjoint({(source, b""), (source, seen_as)}):
            entries.append(parts)
    for found in entries:
        repeated = attribute(CTA_TUPLE_ORIG | NESTED, found[CTA_TUPLE_ORIG])
        repeated += b"".join(attribute(kind, found[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in found)
        _request(asking, CT_DELETE, head + repeated)
    return len(entries)


def _end_sockets(asking: Socket, sources: Sequence[Source]) -> int:
    count = 0
    packed = tuple(source.address.packed for source in sources)
    own_v6 = tuple(source.address_v6.packed for source in sources)
    # An IPv6 socket may speak IPv4, under a mapped address; only a dump of its own family has it.
    bound = {socket.AF_INET: packed, socket.AF_INET6: own_v6 + tuple(MAPPED + address for address in packed)}
    for (family, addresses), protocol in itertools.product(bound.items(), (socket.IPPROTO_TCP, socket.IPPROTO_UDP)):
        head = struct.pack("=BBBBI", family, protocol, 0, 0, ALL_STATES)
        # The 48 bytes after the state are the socket's identity: ports, addresses, interface, cookie.
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


def _source_filter(source: IPv4Address) -> bytes:
    address = attribute(_TUPLE_ADDRESSES[4][0], source.packed)
    tuple_ = attribute(CTA_TUPLE_ORIG | NESTED, attribute(CTA_TUPLE_IP | NESTED, address))
    flags = attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", ORIG_SOURCE))
    return tuple_ + attribute(CTA_FILTER | NESTED, flags)


def _address_of(tuple_: bytes, kind: int) -> bytes:
    addresses = dict(attributes(tuple_)).get(CTA_TUPLE_IP, b"")
    return dict(attributes(addresses)).get(kind, b"")
