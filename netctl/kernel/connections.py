"""Ends the sockets and conntrack entries of a placeholder source.

Sockets are ended while the slot is sealed, between two leases: otherwise they would continue to send and link both
exits to one worker. Old conntrack entries are in a zone of their own, where no packet matches them: they only take
room and may be deleted later. Raw netlink, because a deletion has to repeat the kernel's own bytes (the tuple, the
socket's cookie), and because pyroute2 takes 1 ms for an entry, this 20 us.
"""

from __future__ import annotations

import errno
import itertools
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from netctl.kernel.netlink import NESTED, NETFILTER, SOCK_DIAG, Socket, attribute, attributes
from netctl.kernel.setns import PerSpace, Spaces

CT_GET, CT_DELETE = 0x101, 0x102
"""NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, _DELETE (linux/netfilter/nfnetlink_conntrack.h)."""
CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE = 1, 12, 18
CTA_TUPLE_IP = 1
_SOURCES: dict[int, int] = {socket.AF_INET: 1, socket.AF_INET6: 3}
"""CTA_IP_V4_SRC, CTA_IP_V6_SRC."""
SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
ALL_STATES = 0xFFFFFFFF
MAPPED = bytes(10) + b"\xff\xff"
"""The prefix of an IPv4 address that an IPv6 socket uses (RFC 4291, 2.5.5.2)."""
_BYTECODE = 1
"""INET_DIAG_REQ_BYTECODE (linux/inet_diag.h), a program that the kernel runs for each socket before it lists it."""
_JUMP, _SOURCE_IS = 1, 7
"""INET_DIAG_BC_JMP, _S_COND."""
UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


class Source(NamedTuple):
    """A worker's placeholders, and the network namespace in which they are used."""

    space: str
    address: IPv4Address
    address_v6: IPv6Address


class Sweep(NamedTuple):
    """The conntrack entries of connections from SOURCE; with a ZONE only those in it.

    The slot may already be in use with the next lease, which has another zone.
    """

    source: Source
    zone: int | None = None


class Connections:
    """One socket for each protocol and namespace, for the program's life; for one thread.

    Closing a netfilter socket after a change of nftables waits for an RCU grace period, some 10 ms
    (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
    """

    def __init__(self, spaces: Spaces) -> None:
        self._spaces = spaces
        self._opened = {
            protocol: PerSpace(spaces, partial(_open, protocol), Socket.close) for protocol in (NETFILTER, SOCK_DIAG)
        }

    def end_tracked(self, sweeps: Iterable[Sweep]) -> int:
        """Delete the conntrack entries of SWEEPS; returns their number. Raises OSError, SpaceGone.

        For a dump the kernel walks its whole table, 12 ms with the usual 262,144 buckets, so all SWEEPS in a namespace
        share one walk.
        """
        together: dict[str, list[Sweep]] = {}
        for sweep in sweeps:
            together.setdefault(sweep.source.space, []).append(sweep)
        return sum(self._end_tracked(space, found) for space, found in together.items())

    def _end_tracked(self, space: str, sweeps: list[Sweep]) -> int:
        opened = self._opened[NETFILTER]
        return self._spaces.inside(space, lambda: _end_tracked(opened.at(space), sweeps))

    def end_sockets(self, sources: Iterable[Source]) -> int:
        """Abort TCP and UDP sockets bound to SOURCES (SOCK_DESTROY); returns their number. Raises OSError, SpaceGone.

        A kernel without CONFIG_INET_DIAG_DESTROY keeps them: they then end by their own timeouts.
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


def _end_tracked(asking: Socket, sweeps: Sequence[Sweep]) -> int:
    wanted = {(address.packed, sweep.zone) for sweep in sweeps for address in sweep.source[1:]}
    ours = re.compile(b"|".join({re.escape(source) for source, _ in wanted}), re.DOTALL)
    entries = []
    # Both families at once. The kernel's own filter takes one address, does not exist before 5.8, and returns every
    # IPv6 entry except those asked for (ctnetlink_filter_match_tuple in net/netfilter/nf_conntrack_netlink.c).
    for body in _dump(asking, CT_GET, _head(socket.AF_UNSPEC)):
        if not ours.search(body):
            continue  # 100,000 other entries take 0.1 s with this check, and 1 s if each is parsed
        parts = dict(attributes(body[4:]))
        source = _source_of(parts.get(CTA_TUPLE_ORIG, b""), body[0])
        if not wanted.isdisjoint({(source, None), (source, int.from_bytes(parts.get(CTA_ZONE, b""), "big"))}):
            entries.append((body[0], parts))
    for family, found in entries:
        repeated = attribute(CTA_TUPLE_ORIG | NESTED, found[CTA_TUPLE_ORIG])
        repeated += b"".join(attribute(kind, found[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in found)
        _request(asking, CT_DELETE, _head(family) + repeated)
    return len(entries)


def _head(family: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", family, 0, 0)


def _end_sockets(asking: Socket, sources: Sequence[Source]) -> int:
    count = 0
    packed = tuple(source.address.packed for source in sources)
    own_v6 = tuple(source.address_v6.packed for source in sources)
    # An IPv6 socket may use IPv4 with a mapped address; only a dump of its own family lists it.
    bound = {socket.AF_INET: packed, socket.AF_INET6: own_v6 + tuple(MAPPED + address for address in packed)}
    # The kernel's filter treats a mapped address as the IPv4 address.
    listed = attribute(_BYTECODE, _any_of([*packed, *own_v6]))
    for (family, addresses), protocol in itertools.product(bound.items(), (socket.IPPROTO_TCP, socket.IPPROTO_UDP)):
        head = struct.pack("=BBBBI", family, protocol, 0, 0, ALL_STATES)
        # The 48 bytes after the state are the socket's identity: ports, addresses, interface, cookie.
        found = [body[4:52] for body in _dump(asking, SOCK_DIAG_BY_FAMILY, head + bytes(48) + listed)]
        ours = [identity for identity in found if identity[4:].startswith(addresses)]
        for identity in ours:
            # Before Linux 6.0 a socket in TIME_WAIT gets the same errno as on a kernel without SOCK_DESTROY: go on.
            count += _request(asking, SOCK_DESTROY, head + identity) not in UNSUPPORTED
    return count


def _any_of(addresses: Sequence[bytes]) -> bytes:
    """The filter program for sockets whose source is one of ADDRESSES (run by inet_diag_bc_run in the kernel).

    Without it the kernel would list every socket of every worker for each of them.
    """
    program = b""
    for address in reversed(addresses):
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        condition = struct.pack("=BBxxi", family, 8 * len(address), -1) + address
        size = 4 + len(condition)
        # If the condition is true, go on after it, and jump to the program's end: accept. If not, go to the next
        # condition, or past the end: reject.
        jump = struct.pack("=BBH", _JUMP, 4, 4 + len(program)) if program else b""
        program = struct.pack("=BBH", _SOURCE_IS, size, size + 4) + condition + jump + program
    return program


def _dump(asking: Socket, kind: int, body: bytes) -> list[bytes]:
    try:
        return asking.dump(kind, body)
    except OSError as error:
        if error.errno in (errno.ENOENT, *UNSUPPORTED):
            return []  # this kernel has no conntrack table, or no diag for this protocol
        raise


def _request(asking: Socket, kind: int, body: bytes) -> int:
    """Returns 0, also if the object is gone, or the errno of a kernel that does not support the request."""
    try:
        asking.request(kind, body)
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return error.errno
        if error.errno != errno.ENOENT:
            raise
    return 0


def _source_of(tuple_: bytes, family: int) -> bytes:
    addresses = dict(attributes(tuple_)).get(CTA_TUPLE_IP, b"")
    return dict(attributes(addresses)).get(_SOURCES.get(family, 0), b"")
