"""Limits the number of internet sockets (TCP, UDP, ping; IPv4, IPv6) that a worker has at one time.

Every such socket can take one of the host's local ports, by bind, connect, send or listen. The limits of files and of
processes multiply, so they do not bound the sockets. The kernel counts them instead: two programs at the worker's
control group (BPF_PROG_TYPE_CGROUP_SOCK), one at creation and one at release, and a table with an entry for each
socket. When the table is full, socket(2) fails (EPERM). Sockets from accept(2) share their listener's port and take no
entry.

Needs Linux 5.9 and cgroup v2. Runs as root before every worker: imports only the standard library and fleet.machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from fleet.machine import bpf
from fleet.machine.bpf import word

_CGROUP_SOCK = 9
_SOCK_CREATE, _SOCK_RELEASE = 2, 34
"""linux/bpf.h: the program type and its attach types."""
_MAP_UPDATE, _MAP_DELETE, _SOCKET_COOKIE = 2, 3, 46
"""linux/bpf.h: helper functions (enum bpf_func_id)."""
_NOEXIST = 1


def limit(group: Path, most: int) -> None:
    """Allow the processes in the control group GROUP at most MOST sockets, counting those made from now on.

    The limit ends with the group; a second call replaces the first. Raises OSError.
    """
    table = bpf.table(most)
    try:
        for hook, program in ((_SOCK_RELEASE, _ended(table)), (_SOCK_CREATE, _made(table))):
            loaded = bpf.load(program, _CGROUP_SOCK, hook)
            try:
                bpf.attach(group, loaded, hook)
            finally:
                os.close(loaded)
    finally:
        os.close(table)


def _made(table: int) -> bytes:
    """return map_update_elem(TABLE, &cookie, &0, NOEXIST) == 0"""
    return b"".join(
        [
            *_cookie_and_table(table),
            word(bpf.MOVE, 3, bpf.FRAME),
            word(bpf.ADD, 3, number=-16),
            word(bpf.SET, 4, number=_NOEXIST),
            word(bpf.CALL, number=_MAP_UPDATE),
            word(bpf.MOVE, 1, 0),
            word(bpf.SET, 0, number=1),
            word(bpf.SKIP_IF, 1, offset=1),
            word(bpf.SET, 0, number=0),
            word(bpf.EXIT),
        ]
    )


def _ended(table: int) -> bytes:
    """map_delete_elem(TABLE, &cookie); return 1"""
    return b"".join(
        [*_cookie_and_table(table), word(bpf.CALL, number=_MAP_DELETE), word(bpf.SET, 0, number=1), word(bpf.EXIT)]
    )


def _cookie_and_table(table: int) -> tuple[bytes, ...]:
    """r1 = TABLE, r2 = the stack address of the socket's cookie, which is unique to it; below it is a 0."""
    return (
        word(bpf.CALL, number=_SOCKET_COOKIE),  # r1 is the socket from the start
        word(bpf.STORE, bpf.FRAME, 0, offset=-8),
        word(bpf.SET, 1, number=0),
        word(bpf.STORE, bpf.FRAME, 1, offset=-16),
        bpf.long(1, table, source=1),
        word(bpf.MOVE, 2, bpf.FRAME),
        word(bpf.ADD, 2, number=-8),
    )
