"""The certain end of processes: everything this process ever started, however deep, killed and waited for.

A worker is a subreaper (prctl(2)): a process whose parent ends becomes its child, so the tree below it
is complete and nothing escapes by forking twice. Used as root by nobody.
"""

from __future__ import annotations

import contextlib
import os
import time

from fleet.errors import FleetError
from fleet.machine import processes, syscalls

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it."""
    syscalls.prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[int]:
    """Every process below this one, zombies included."""
    children: dict[int, list[int]] = {}
    for pid in processes.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(processes.stat(pid)[1])
            children.setdefault(parent, []).append(pid)
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_descendants(*, seconds: float = 10) -> None:
    """SIGKILL for everything below this process; returns when all are gone and reaped.

    No polite request first: the profile is thrown away, and a hung browser does not hear one. Raises
    FleetError naming what is left after SECONDS (a process in an uninterruptible wait).
    """
    deadline = time.monotonic() + seconds
    while descendants():
        kill_descendants(deadline)
        _collect()
        if time.monotonic() > deadline:
            raise FleetError(f"processes {descendants()} do not end, even after SIGKILL")


def kill_descendants(deadline: float) -> None:
    """SIGKILL for everything below this process now; waits for each end, until DEADLINE (monotonic), and reaps none."""
    for pid in descendants():
        processes.kill(pid, deadline)


def _collect() -> None:
    """Reap every child that has ended; libraries that wait for theirs cope with finding none."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
