"""Landlock (landlock(7)): a worker listens only on its browser's TCP ports, and cannot reach processes outside.

It depends on the kernel: TCP ports since Linux 6.7, abstract Unix sockets and signals since 6.12. The rules bind the
caller and all its children permanently.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from fleet.machine.syscalls import checked

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every architecture (asm-generic/unistd.h)."""
_VERSION = 1
_NET_PORT = 2
_BIND_TCP = 1
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
"""linux/landlock.h."""
TCP_SINCE, SCOPES_SINCE = 4, 6
"""The ABI versions that first have TCP ports and scopes."""

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock ABI version; 0: the kernel has no Landlock, or was booted without it."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def restrict(ports: Iterable[int]) -> None:
    """Allow bind(2) of TCP sockets to PORTS only; forbid abstract sockets of, and signals to, processes outside."""
    version = abi()
    if version < TCP_SINCE:
        return
    # struct landlock_ruleset_attr: file system (none), network, and scopes if the kernel has them.
    handled = struct.pack("=QQ", 0, _BIND_TCP)
    if version >= SCOPES_SINCE:
        handled += struct.pack("=Q", _ABSTRACT_SOCKETS | _SIGNALS)
    rules = _call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), ctypes.c_uint32(0))
    try:
        for port in ports:
            _call(_ADD_RULE, rules, _NET_PORT, struct.pack("=QQ", _BIND_TCP, port), ctypes.c_uint32(0))
        _call(_RESTRICT_SELF, rules, ctypes.c_uint32(0))
    finally:
        os.close(rules)


def _call(number: int, *arguments: object) -> int:
    return checked(_libc.syscall(number, *arguments), "landlock")
