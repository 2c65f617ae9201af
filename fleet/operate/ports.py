"""Reserves the browsers' ports for their owners: no other user can bind to one before the browser does.

Only needed where all share a network namespace (isolation uid). Two BPF programs at the top control group
(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, for bind(2) of IPv4 and IPv6) refuse (EPERM) the TCP ports of a worker's browser to
every other UID, root included, in this network namespace only. They coexist with programs of others, and last as long
as a process holds their descriptors. supervisord does, so they exist from before the first worker until after the last,
whatever happens to netctl, and need no clean-up.

Ports that the kernel picks without bind(2) (connect, listen) come from net.ipv4.ip_local_port_range, which is above
these ports; the doctor reports it where that was changed.

Linux 5.14 (SO_NETNS_COOKIE), cgroup v2.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from fleet.isolation import NETNS
from fleet.machine import bpf, cgroups
from fleet.machine.bpf import word
from fleet.model import Fleet, Worker
from fleet.terminal import console

_CGROUP_SOCK_ADDR = 18
_BINDS = (8, 9)
"""linux/bpf.h: the kind of program, its attach types (BPF_CGROUP_INET4_BIND, BPF_CGROUP_INET6_BIND)."""
_PORT, _KIND = 24, 32
"""Offsets in struct bpf_sock_addr: user_port, in network order, and type."""
_UID_AND_GID, _NETNS_COOKIE = 15, 122
"""Helpers (enum bpf_func_id)."""
_SO_NETNS_COOKIE = 71
"""asm-generic/socket.h; the cookie identifies a network namespace until the next boot."""


@contextmanager
def kept(fleet: Fleet) -> Iterator[tuple[int, ...]]:
    """Reserve FLEET's ports in the block; yields the descriptors, for supervisord to hold. Empty if not possible."""
    with ExitStack() as ends:
        try:
            found = () if fleet.walls is NETNS else keep(fleet.members)
        except OSError as error:
            found = ()
            console.say(
                f"fleet: WARNING: the browsers' ports are not reserved for them: {error.strerror}; what to do: "
                'isolation = "netns", or Linux 5.14 with cgroup v2 and CAP_SYS_ADMIN (CAP_BPF) for fleet up'
            )
        for one in found:
            ends.callback(os.close, one)
        yield found


def keep(workers: Sequence[Worker]) -> tuple[int, ...]:
    """Reserve the ports of WORKERS (consecutive UIDs) until all copies of the returned descriptors are closed.

    Raises OSError.
    """
    top = cgroups.top()
    if top is None:
        raise OSError(errno.ENOENT, "no cgroup v2 is mounted")
    program, links = _program(workers[0], workers[-1], _this_network()), list[int]()
    try:
        for hook in _BINDS:
            loaded = bpf.load(program, _CGROUP_SOCK_ADDR, hook)
            try:
                links.append(bpf.link(top, loaded, hook))
            finally:
                os.close(loaded)
    except OSError:
        for one in links:
            os.close(one)
        raise
    return tuple(links)


def _this_network() -> int:
    with socket.socket() as asking:
        return int.from_bytes(asking.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)


def _program(first: Worker, last: Worker, network: int) -> bytes:
    """The BPF program: return type != SOCK_STREAM || port < lowest || port > highest || netns_cookie() != NETWORK
    || uid() == FIRST.uid + (port - lowest) / 2
    """
    lowest, highest = min(first.browser_ports), max(last.browser_ports)
    lines = [
        word(bpf.MOVE, 6, 1),  # r1 is the context from the start
        word(bpf.LOAD, 7, 6, offset=_KIND),
        _allowed_unless(bpf.SKIP_IF, 7, number=socket.SOCK_STREAM),
        word(bpf.LOAD, 7, 6, offset=_PORT),
        word(bpf.NETWORK_ORDER, 7, number=16),
        _allowed_unless(bpf.SKIP_FROM, 7, number=lowest),
        _allowed_unless(bpf.SKIP_TO, 7, number=highest),
        word(bpf.CALL, number=_NETNS_COOKIE),
        bpf.long(1, network),
        _allowed_unless(bpf.SKIP_IF_SAME, 0, 1),
        word(bpf.CALL, number=_UID_AND_GID),
        word(bpf.LOW_HALF, 0, 0),
        word(bpf.ADD, 7, number=-lowest),
        word(bpf.HALVE, 7, number=1),
        word(bpf.ADD, 7, number=first.uid),
        _allowed_unless(bpf.SKIP_IF_OTHER, 0, 7),
        word(bpf.SET, 0, number=0),
        word(bpf.EXIT),
    ]
    return b"".join(lines)


def _allowed_unless(skip: int, left: int, right: int = 0, number: int = 0) -> bytes:
    """Return 1 (allow), unless SKIP holds."""
    return word(skip, left, right, offset=2, number=number) + word(bpf.SET, 0, number=1) + word(bpf.EXIT)
