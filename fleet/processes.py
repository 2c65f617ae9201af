"""Who owns a lease, in a form that outlives netctl: `boot:pid:start`.

A pid alone may be somebody else's by now; with its start time (proc(5), field 22, clock ticks since
boot) and the boot's id it is one process for ever.
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path

from fleet.deadline import within


def owner_of(pid: int) -> str:
    """The owner string of process PID; one that is gone already is nobody's."""
    return f"{boot_id()}:{pid}:{_start(pid) or 'gone'}"


def alive(owner: str) -> bool:
    """Whether the very process that OWNER names still runs."""
    boot, pid, start = owner.split(":")
    return boot == boot_id() and start != "gone" and _start(int(pid)) == start


def pid_of(owner: str) -> int:
    """The process id in OWNER."""
    return int(owner.split(":")[1])


@cache
def boot_id() -> str:
    """Names this boot of the machine (proc_sys_kernel(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


async def wait_for_end(owner: str, timeout_seconds: float) -> bool:
    """True as soon as OWNER's process has ended, False when it still runs after TIMEOUT_SECONDS."""
    try:
        descriptor = os.pidfd_open(pid_of(owner))
    except OSError:
        return True
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        if not alive(owner):  # the pid was another's before we opened it
            return True
        await within(timeout_seconds, ended.wait())
        return True
    except asyncio.TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
