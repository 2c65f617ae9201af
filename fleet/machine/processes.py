"""Processes as the kernel reports them: waiting for their end, and identifying one beyond the life of its observer.

A pid alone may have been reused. A pidfd (pidfd_open(2)) identifies one process; so does `boot:pid:start`: the boot's
id, the pid and the start time (clock ticks since boot). Standard library only, and little of it: the
worker's launcher runs this as root.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PROC = Path("/proc")
NETCTL_START_SECONDS, WORKER_START_SECONDS = 2, 1
"""supervisord's `startsecs`: see outlive()."""
_NAMED = 5
_MARGIN_SECONDS = 0.1
"""supervisord's clock begins before the fork, and the kernel counts a process's start in ticks of 10 ms."""


class Handle:
    """A pidfd of one process, a child or not. Raises ProcessLookupError when there is no such process."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def fileno(self) -> int:
        """A descriptor that is readable once the process has ended."""
        return self._descriptor

    def wait(self, seconds: float | None) -> bool:
        """Whether it ended within SECONDS; None waits forever."""
        return bool(select.select([self], [], [], seconds)[0])

    def kill(self) -> None:
        """Send SIGKILL; no error when the process has ended. Raises PermissionError."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kill(pid: int, deadline: float) -> None:
    """Send SIGKILL, then wait for the end until DEADLINE (monotonic); no error when the process has ended."""
    try:
        process = Handle(pid)
    except ProcessLookupError:
        return
    with process:
        process.kill()
        process.wait(max(0.0, deadline - time.monotonic()))


def outlive(seconds: float) -> None:
    """Wait until this process is older than SECONDS. A signal whose handler raises ends the wait.

    supervisord heeds the exit code only of a program that has lived for its `startsecs`. It treats an earlier end as a
    crash at start, whatever the code, and restarts it with growing pauses (Subprocess.finish in supervisor 4.3). That
    is right for a crash, so `startsecs` is not 0; but a program that is done, or has wrong settings, must not be
    restarted. So before a final exit a program waits that long.
    """
    started = int(stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    select.select([], [], [], max(0.0, seconds + _MARGIN_SECONDS - age))


def pids() -> list[int]:
    """Every process that this one can see."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def stat(process: int | Path) -> list[str]:
    """The fields of PROCESS (a pid or its /proc folder) from the third, the state, on (proc_pid_stat(5)); OSError."""
    text = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()  # the program's name before it may contain any character


def status(process: int | Path) -> dict[str, str]:
    """The lines of proc_pid_status(5) about PROCESS (a pid or its /proc folder): name -> value. Raises OSError."""
    lines = (PROC / str(process) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def starters(pids: Iterable[int]) -> str:
    """The parents of PIDS, a few of them, as `PID (name)`; "nobody that is left" when all parents have ended."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, KeyError):
            parent = status(pid)["PPid"]
            found.add(f"{parent} ({status(int(parent))['Name']})")
    return ", ".join(sorted(found)[:_NAMED]) or "nobody that is left"


def owner_of(pid: int) -> str:
    """The owner string of process PID; for one that has ended it is `boot:pid:gone`."""
    return f"{boot_id()}:{pid}:{_start(pid) or 'gone'}"


def alive(owner: str) -> bool:
    """Whether exactly the process that OWNER identifies still runs."""
    boot, pid, start = owner.split(":")
    return boot == boot_id() and start != "gone" and _start(int(pid)) == start


def handle_of(owner: str) -> Handle | None:
    """The process that OWNER identifies; None when it has ended."""
    try:
        process = Handle(int(owner.split(":")[1]))
    except OSError:
        return None
    if alive(owner):
        return process
    process.close()  # the pid had been reused before we opened it
    return None


@cache
def boot_id() -> str:
    """The id of this boot of the machine (proc_sys_kernel(5), random/boot_id)."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _start(pid: int) -> str | None:
    try:
        fields = stat(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
