"""What netctl gives up before it reads a key, and the one capability it must have.

Its account, the cut bounding set and the limit of core files come from the words that start it
(fleet.programs); what a process can only do to itself is here, and holds whoever starts it.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from fleet import log, syscalls
from fleet.errors import NotAllowed

CAP_NET_ADMIN = 12
"""linux/capability.h."""
_CORE_BYTES = 1
"""No core file, and none through a pipe: 0 would not hold there (coredump_pipe in fs/coredump.c)."""


def keep_memory() -> None:
    """No core dump, no ptrace and no look into /proc/PID/mem, by our own account either: private keys are in there.

    Not even fs.suid_dumpable=2, which systemd-coredump sets, dumps a process that has said so itself.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = _CORE_BYTES if hard == resource.RLIM_INFINITY else min(_CORE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def cut() -> None:
    """For `serve`: what it makes is its own alone, it can gain nothing. Raises NotAllowed without CAP_NET_ADMIN."""
    os.umask(0o077)
    syscalls.one_heap()  # its threads wait for the kernel, not for each other
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    held = effective()
    if CAP_NET_ADMIN not in held:
        raise NotAllowed("netctl serve needs CAP_NET_ADMIN", hint="fleet up starts it with that and nothing else")
    if held != {CAP_NET_ADMIN}:
        log.get("netctl").warning("privileges.more_than_needed", uid=os.geteuid(), capabilities=len(held))


def effective() -> set[int]:
    """The numbers of this process's effective capabilities (capabilities(7))."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mask = int(fields["CapEff"], 16)
    return {number for number in range(mask.bit_length()) if mask >> number & 1}
