"""Ends processes for certain: kills and reaps everything that this process ever started, at any depth.

A worker is a subreaper (prctl(2)): a process whose parent ends becomes its child, so the tree below it
is complete and nothing escapes by forking twice. Not for use as root.
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
    """Kill everything below this process with SIGKILL; returns when all have ended and are reaped.

    No SIGTERM first: the profile is thrown away, and a hung browser ignores it. Raises FleetError naming
    the processes that are left after SECONDS (in an uninterruptible wait).
    """
    deadline = time.monotonic() + seconds
    while descendants():
        kill_descendants(deadline)
        _collect()
        if time.monotonic() > deadline:
            raise FleetError(f"processes {descendants()} do not end, even after SIGKILL")


def kill_descendants(deadline: float) -> None:
    """Kill everything below this process now; waits for each end until DEADLINE (monotonic), and reaps nothing."""
    for pid in descendants():
        processes.kill(pid, deadline)


def _collect() -> None:
    """Reap every child that has ended; libraries that wait for their own children cope with that."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
