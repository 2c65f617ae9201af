"""What netctl gives up before it reads a key, and the capabilities it must have.

Its account, the cut bounding set and the limit of core files come from the words that start it
(fleet.programs); what a process can only do to itself is here, and holds whoever starts it.
"""

from __future__ import annotations

import contextlib
import os
import resource

from fleet import log
from fleet.errors import NotAllowed
from fleet.isolation import Isolation
from fleet.machine import syscalls
from netctl.kernel.setns import CAP_SYS_ADMIN

_NUMBERS = {"net_admin": 12, "sys_admin": CAP_SYS_ADMIN}
"""linux/capability.h."""
_CORE_BYTES = 1
"""No core file, and none through a pipe: 0 would not hold there (coredump_pipe in fs/coredump.c)."""


def keep_memory() -> None:
    """No core dump, no swap, no ptrace, no look into /proc/PID/mem, by our own account either: it holds private keys.

    Not even fs.suid_dumpable=2, which systemd-coredump sets, dumps a process that has said so itself.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = _CORE_BYTES if hard == resource.RLIM_INFINITY else min(_CORE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    # With a limit, the first page over it would be the end of us: all or nothing. A capability would do (IPC_LOCK), and
    # be gone when a command becomes netctl.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            syscalls.lock_memory()


def cut(walls: Isolation) -> None:
    """For `serve`: what it makes is its own alone, it can gain nothing, and has in effect only what WALLS always need.

    Raises NotAllowed without the capabilities of WALLS.
    """
    os.umask(0o077)
    syscalls.one_heap()  # its threads wait for the kernel, not for each other
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    held, needed = syscalls.capabilities().effective, sum(1 << _NUMBERS[name] for name in walls.capabilities)
    for name in walls.capabilities:
        if not held >> _NUMBERS[name] & 1:
            raise NotAllowed(
                f"netctl serve needs CAP_{name.upper()} with isolation {walls.name}",
                hint="fleet up starts it with that and nothing else",
            )
    if held != needed:
        log.get("netctl").warning("privileges.more_than_needed", uid=os.geteuid(), capabilities=held.bit_count())
    elif held >> CAP_SYS_ADMIN & 1:
        _put_by(1 << CAP_SYS_ADMIN)


def _put_by(mask: int) -> None:
    """What MASK names stays permitted alone: no call has it in effect, no child inherits it.

    What goes from the inheritable set leaves the ambient one too (capabilities(7)).
    """
    held = syscalls.capabilities()
    syscalls.set_capabilities(held._replace(effective=held.effective & ~mask, inheritable=held.inheritable & ~mask))
