"""So many internet sockets (TCP, UDP, ping; IPv4, IPv6) for a worker at one time, and no more.

Every such socket can take one of the host's local ports, whatever it does: bind, connect, send, listen. Limits of files
and processes multiply, and bound nothing. So the kernel counts: two programs at the worker's control group
(BPF_PROG_TYPE_CGROUP_SOCK), one where a socket is made and one where it ends, and a table with a place for each socket.
Without a free place there is no socket (EPERM). Sockets that accept(2) gives share their listener's port and take none.

Linux 5.9, cgroup v2. Standard library only: runs as root before every worker.
"""

from __future__ import annotations

import os
from pathlib import Path

from fleet.machine import bpf
from fleet.machine.bpf import word

_CGROUP_SOCK = 9
_SOCK_CREATE, _SOCK_RELEASE = 2, 34
"""linux/bpf.h: the kind of program, its attach types."""
_MAP_UPDATE, _MAP_DELETE, _SOCKET_COOKIE = 2, 3, 46
"""Its helpers (enum bpf_func_id)."""
_NOEXIST = 1


def limit(group: Path, most: int) -> None:
    """The processes in the control group GROUP have at most MOST sockets, of those made from now on. Raises OSError.

    It ends with the group; a second call takes the place of the first.
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
    """r1 = TABLE, r2 = a place on the stack with the socket's cookie, its one number; below it is a 0."""
    return (
        word(bpf.CALL, number=_SOCKET_COOKIE),  # r1 is the socket from the start
        word(bpf.STORE, bpf.FRAME, 0, offset=-8),
        word(bpf.SET, 1, number=0),
        word(bpf.STORE, bpf.FRAME, 1, offset=-16),
        bpf.long(1, table, source=1),
        word(bpf.MOVE, 2, bpf.FRAME),
        word(bpf.ADD, 2, number=-8),
    )
