"""What netctl gives up before it reads a key, and the capabilities it must have.

Its account, the reduced bounding set and the core file limit come from the command line that starts it
(fleet.programs). Here is what only the process itself can do; it applies no matter what started netctl.
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
"""1 byte prevents core files and also dumps to a pipe, which 0 does not (coredump_pipe in fs/coredump.c)."""


def keep_memory() -> None:
    """Forbid core dumps, swap, ptrace and /proc/PID/mem, also for netctl's own account: the memory has private keys.

    Even with fs.suid_dumpable=2, which systemd-coredump sets, the kernel does not dump a process that has set
    PR_SET_DUMPABLE to 0.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = _CORE_BYTES if hard == resource.RLIM_INFINITY else min(_CORE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    # Lock all memory or none: with a limit, the first page over it would kill the process. CAP_IPC_LOCK would do too,
    # but is lost when a command switches to netctl's account.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            syscalls.lock_memory()


def cut(walls: Isolation) -> None:
    """For `serve`: umask 077, no new privileges, and CAP_SYS_ADMIN, if held, is permitted but not effective.

    Raises NotAllowed without the capabilities of WALLS; with more than these, logs a warning and leaves all effective.
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
    """Keep the capabilities in MASK only in the permitted set: not effective, and not inherited by children.

    Removing one from the inheritable set removes it from the ambient set too (capabilities(7)).
    """
    held = syscalls.capabilities()
    syscalls.set_capabilities(held._replace(effective=held.effective & ~mask, inheritable=held.inheritable & ~mask))
