"""So many internet sockets (TCP, UDP, ping; IPv4, IPv6) for a worker at one time, and no more.

Every such socket can take one of the host's local ports, whatever it does: bind, connect, send, listen. Limits of files
and processes multiply, and bound nothing. So the kernel counts: two programs at the worker's control group
(BPF_PROG_TYPE_CGROUP_SOCK), one where a socket is made and one where it ends, and a table with a place for each socket.
Without a free place there is no socket (EPERM). Sockets that accept(2) gives share their listener's port and take none.

Linux 5.9, cgroup v2. Standard library only: runs as root before every worker.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
"""The number of bpf(2)."""
_MAP_CREATE, _PROG_LOAD, _PROG_ATTACH = 0, 5, 8
_MAP_HASH, _PROG_CGROUP_SOCK = 1, 9
_SOCK_CREATE, _SOCK_RELEASE = 2, 34
"""linux/bpf.h: commands, kinds, attach types."""
_MAP_UPDATE, _MAP_DELETE, _SOCKET_COOKIE = 2, 3, 46
"""Its helpers (enum bpf_func_id)."""
_NOEXIST = 1

_MOVE, _SET, _ADD, _STORE, _LOAD_IMMEDIATE, _CALL, _SKIP_IF_ZERO, _EXIT = (
    *(0xBF, 0xB7, 0x07),
    *(0x7B, 0x18, 0x85, 0x15, 0x95),
)
"""Operations on 64 bits: r = r, r = n, r += n, *(r + n) = r, r = n (two words), call, jump, exit."""
_FRAME = 10
"""The register that holds the end of the program's stack."""

_libc = ctypes.CDLL(None, use_errno=True)


def limit(group: Path, most: int) -> None:
    """The processes in the control group GROUP have at most MOST sockets, of those made from now on. Raises OSError.

    It ends with the group; a second call takes the place of the first.
    """
    table = _bpf(_MAP_CREATE, struct.pack("=IIIII", _MAP_HASH, 8, 8, most, 0))
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for hook, program in ((_SOCK_RELEASE, _ended(table)), (_SOCK_CREATE, _made(table))):
            loaded = _load(program, hook)
            _bpf(_PROG_ATTACH, struct.pack("=IIII", folder, loaded, hook, 0))
            os.close(loaded)
    finally:
        os.close(folder)
        os.close(table)


def _made(table: int) -> bytes:
    """return map_update_elem(TABLE, &cookie, &0, NOEXIST) == 0"""
    return b"".join(
        [
            *_cookie_and_table(table),
            _word(_MOVE, 3, _FRAME),
            _word(_ADD, 3, number=-16),
            _word(_SET, 4, number=_NOEXIST),
            _word(_CALL, number=_MAP_UPDATE),
            _word(_MOVE, 1, 0),
            _word(_SET, 0, number=1),
            _word(_SKIP_IF_ZERO, 1, offset=1),
            _word(_SET, 0, number=0),
            _word(_EXIT),
        ]
    )


def _ended(table: int) -> bytes:
    """map_delete_elem(TABLE, &cookie); return 1"""
    return b"".join(
        [*_cookie_and_table(table), _word(_CALL, number=_MAP_DELETE), _word(_SET, 0, number=1), _word(_EXIT)]
    )


def _cookie_and_table(table: int) -> tuple[bytes, ...]:
    """r1 = TABLE, r2 = a place on the stack with the socket's cookie, its one number; below it is a 0."""
    return (
        _word(_CALL, number=_SOCKET_COOKIE),  # r1 is the socket from the start
        _word(_STORE, _FRAME, 0, offset=-8),
        _word(_SET, 1, number=0),
        _word(_STORE, _FRAME, 1, offset=-16),
        _word(_LOAD_IMMEDIATE, 1, source=1, number=table),  # 1: BPF_PSEUDO_MAP_FD
        _word(0),
        _word(_MOVE, 2, _FRAME),
        _word(_ADD, 2, number=-8),
    )


def _word(operation: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """One struct bpf_insn."""
    return struct.pack("=BBhi", operation, target | source << 4, offset, number)


def _load(program: bytes, hook: int) -> int:
    text, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"")
    words = (_PROG_CGROUP_SOCK, len(program) // 8, ctypes.addressof(text), ctypes.addressof(licence))
    # Up to expected_attach_type of the union's member for BPF_PROG_LOAD.
    return _bpf(_PROG_LOAD, struct.pack("=IIQQIIQII16sII", *words, 0, 0, 0, 0, 0, b"", 0, hook))


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf: not known on this architecture")
    result: int = _libc.syscall(number, command, attributes, ctypes.c_uint(len(attributes)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"bpf: {os.strerror(error)}")
    return result
