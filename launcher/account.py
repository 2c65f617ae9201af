"""The worker's account: check its UID, lock it, and kill processes of an earlier run."""

from __future__ import annotations

import contextlib
import errno
import pwd
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from fleet.errors import ConfigurationError, TryLater
from fleet.launch_spec import LaunchSpec
from fleet.machine import lockfile, processes

LOCK_SECONDS = 10
KILL_SECONDS = 10


def check_account(spec: LaunchSpec) -> int:
    """The primary group of the worker's account; refuses a UID that belongs to another account."""
    try:
        entry = pwd.getpwuid(spec.uid)
    except KeyError:
        raise ConfigurationError(f"UID {spec.uid} has no account {spec.account}; run: fleet up") from None
    if entry.pw_name != spec.account:
        message = (
            f"UID {spec.uid} belongs to {entry.pw_name!r}, not to the fleet's {spec.account}; "
            "choose a free range: workers.first_uid in fleet.toml"
        )
        raise ConfigurationError(message)
    return entry.pw_gid


def take_lock(spec: LaunchSpec) -> None:
    """Hold the UID's lock until this process and its forks end. A leftover worker that has it is killed first."""
    path = Path(spec.lock)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = lockfile.opened(path)
    if lockfile.take(descriptor):
        return
    sweep(spec.uid)  # an earlier worker, unknown to this supervisor
    with alarm(LOCK_SECONDS):
        try:
            lockfile.wait(descriptor)
        except InterruptedError:
            message = f"another launch of {spec.account} holds {path}; is a second supervisor running?"
            raise TryLater(message) from None


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Blocking calls inside raise InterruptedError after SECONDS."""

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError(errno.EINTR, "took too long")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def sweep(uid: int) -> None:
    """Kill every process of UID and return when the last one is gone; raises TryLater when one does not end."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        # A process may fork between the search and the kill, so repeat until none is found.
        found = [pid for pid in processes.pids() if is_alive_of(pid, uid)]
        if not found:
            return
        for pid in found:
            processes.kill(pid, deadline)
        if time.monotonic() > deadline:
            raise TryLater(f"processes {found} of UID {uid} do not end, even after SIGKILL")


def is_alive_of(pid: int, uid: int) -> bool:
    """Whether PID runs under UID, as its real, effective, saved or file system UID.

    A zombie does not count, unless only its first thread has ended: the state is that thread's, and the others run on.
    """
    try:
        fields = processes.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    ended = fields["State"][0] in "ZX" and int(fields.get("Threads", "1")) <= 1
    return str(uid) in fields["Uid"].split() and not ended
