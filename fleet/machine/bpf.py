"""Small BPF programs for control groups (bpf(2)): assembles, loads and attaches them.

Linux 5.9, cgroup v2. Standard library only: the worker's launcher runs this as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

from fleet.machine.syscalls import checked

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
"""The number of bpf(2)."""
_MAP_CREATE, _PROG_LOAD, _PROG_ATTACH, _LINK_CREATE = 0, 5, 8, 28
_MAP_HASH = 1
"""linux/bpf.h: commands, kinds."""

MOVE, SET, ADD, STORE, LOAD_IMMEDIATE, CALL, EXIT = (0xBF, 0xB7, 0x07, 0x7B, 0x18, 0x85, 0x95)
"""Operations on 64 bits: r = r, r = n, r += n, *(r + n) = r, r = n (two words), call, exit."""
LOAD, LOW_HALF, NETWORK_ORDER, HALVE = 0x61, 0xBC, 0xDC, 0x77
"""r = *(u32 *)(r + n), r = (u32)r, r = be(r) of n bits, r >>= n."""
SKIP_IF, SKIP_FROM, SKIP_TO = 0x15, 0x35, 0xB5
"""Jumps forward: r == n, r >= n, r <= n."""
SKIP_IF_SAME, SKIP_IF_OTHER = 0x1D, 0x5D
"""r == r, r != r."""
FRAME = 10
"""The register that holds the end of the program's stack."""

_libc = ctypes.CDLL(None, use_errno=True)


def word(operation: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """One struct bpf_insn."""
    return struct.pack("=BBhi", operation, target | source << 4, offset, number)


def long(target: int, number: int, source: int = 0) -> bytes:
    """TARGET = NUMBER (64 bits); with SOURCE 1 (BPF_PSEUDO_MAP_FD) the map with the descriptor NUMBER."""
    low, high = struct.unpack("=ii", struct.pack("=Q", number))
    return word(LOAD_IMMEDIATE, target, source, number=low) + word(0, number=high)


def table(most: int) -> int:
    """Make a hash map of at most MOST entries, 8-byte keys and values; returns its descriptor. Raises OSError."""
    return _bpf(_MAP_CREATE, struct.pack("=IIIII", _MAP_HASH, 8, 8, most, 0))


def load(program: bytes, kind: int, hook: int) -> int:
    """Load PROGRAM of type KIND for the attach type HOOK; returns its descriptor. Raises OSError."""
    text, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"")
    words = (kind, len(program) // 8, ctypes.addressof(text), ctypes.addressof(licence))
    # union bpf_attr's member for BPF_PROG_LOAD, up to expected_attach_type.
    return _bpf(_PROG_LOAD, struct.pack("=IIQQIIQII16sII", *words, 0, 0, 0, 0, 0, b"", 0, hook))


def attach(group: Path, loaded: int, hook: int) -> None:
    """Attach the program LOADED to GROUP, replacing its only one; it ends with the group. Raises OSError."""
    _at(group, lambda folder: _bpf(_PROG_ATTACH, struct.pack("=IIII", folder, loaded, hook, 0)))


def link(group: Path, loaded: int, hook: int) -> int:
    """Attach the program LOADED to GROUP beside others (BPF_F_ALLOW_MULTI), until the last copy of the returned
    descriptor is closed. Raises OSError.
    """
    return _at(group, lambda folder: _bpf(_LINK_CREATE, struct.pack("=IIII", loaded, folder, hook, 0)))


def _at(group: Path, do: Callable[[int], int]) -> int:
    folder = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return do(folder)
    finally:
        os.close(folder)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "bpf: not known on this architecture")
    return checked(_libc.syscall(number, command, attributes, ctypes.c_uint(len(attributes))), "bpf")
