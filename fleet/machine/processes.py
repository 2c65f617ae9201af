"""Processes as the kernel tells of them: their certain end, and who one is in a form that outlives the asker.

A pid alone may be somebody else's by now. A pidfd (pidfd_open(2)) stands for one process; so does `boot:pid:start`,
its pid with its start time (clock ticks since boot) and the boot's id. Standard library only, and little of it: the
worker's launcher runs this as root.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from functools import cache
from pathlib import Path

PROC = Path("/proc")
NETCTL_START_SECONDS, WORKER_START_SECONDS = 2, 1
"""supervisord's `startsecs`: see outlive()."""
_MARGIN_SECONDS = 0.1
"""supervisord's clock begins before the fork, and the kernel counts a process's start in ticks of 10 ms."""


class Handle:
    """One process, a child or not: its number cannot be reused under us. Raises ProcessLookupError when it has gone."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def fileno(self) -> int:
        """A descriptor that is readable once the process has ended."""
        return self._descriptor

    def wait(self, seconds: float | None) -> bool:
        """Whether it ended within SECONDS; None waits for ever."""
        return bool(select.select([self], [], [], seconds)[0])

    def kill(self) -> None:
        """SIGKILL; one that has gone already is fine. Raises PermissionError."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kill(pid: int, deadline: float) -> None:
    """SIGKILL, then wait for the end until DEADLINE (monotonic); a process that is gone is fine."""
    try:
        process = Handle(pid)
    except ProcessLookupError:
        return
    with process:
        process.kill()
        process.wait(max(0.0, deadline - time.monotonic()))


def outlive(seconds: float) -> None:
    """Return once this process is older than SECONDS. A signal whose handler raises ends the wait.

    supervisord reads an exit code only of a program that has lived for its `startsecs`. One that ends earlier has
    crashed at its start, whatever its code: supervisord starts it again, with growing pauses (Subprocess.finish in
    supervisor 4.3). That is right for a crash, so `startsecs` is not 0; but it would start a program again that is
    done, or whose settings are wrong. So a final end waits that long.
    """
    started = int(stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    select.select([], [], [], max(0.0, seconds + _MARGIN_SECONDS - age))


def pids() -> list[int]:
    """Every process that this one can see."""
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]


def stat(process: int | Path) -> list[str]:
    """The fields of PROCESS (a pid or its folder) from the third, the state, on (proc_pid_stat(5)). Raises OSError."""
    text = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()  # before it stands the program's name, which may hold anything


def status(process: int | Path) -> dict[str, str]:
    """Name -> value of each line about PROCESS (a pid or its folder) in proc_pid_status(5). Raises OSError."""
    lines = (PROC / str(process) / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def owner_of(pid: int) -> str:
    """The owner string of process PID; of one that has gone it names no process."""
    return f"{boot_id()}:{pid}:{_start(pid) or 'gone'}"


def alive(owner: str) -> bool:
    """Whether the very process that OWNER names still runs."""
    boot, pid, start = owner.split(":")
    return boot == boot_id() and start != "gone" and _start(int(pid)) == start


def handle_of(owner: str) -> Handle | None:
    """The process that OWNER names; None when it has ended."""
    try:
        process = Handle(int(owner.split(":")[1]))
    except OSError:
        return None
    if alive(owner):
        return process
    process.close()  # the pid was another's before we opened it
    return None


@cache
def boot_id() -> str:
    """Names this boot of the machine (proc_sys_kernel(5), random/boot_id)."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _start(pid: int) -> str | None:
    try:
        fields = stat(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
