"""The worker's own namespaces: network (isolation netns), processes and System V memory (always).

    supervisord ── launcher (root, outside) ── process 1 (the worker's UID) ── worker ── browser ...

The kernel kills everything in a PID namespace when its process 1 ends (pid_namespaces(7)), however deep it has forked
and whatever sessions, namespaces or tracers it has made. Nothing of a worker outlives its launcher, and with the last
process the kernel frees its shared memory (ipc_namespaces(7)).
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import NoReturn

from fleet.machine import cgroups, spaces, syscalls

FORWARDED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""Signals that supervisorctl may send; they are passed on, as if the worker were supervisord's own child."""
_WAITED_FOR = FORWARDED | {signal.SIGCHLD}
_STATUS_BYTES = 4


def own_network(space: str) -> None:
    """Enter the network namespace at the path SPACE ("": stay in this one). It is created if it is missing.

    Call this before the mounts are private: a name created here must be visible to all processes.
    """
    if space:
        spaces.make(Path(space))
        spaces.enter(Path(space))


class Inside:
    """What own_processes() returns in process 1 of the new namespaces; fork_worker() starts the worker below it."""

    def __init__(self, outside: int, status: int, mask: set[int | signal.Signals]) -> None:
        self._outside, self._status, self._mask = outside, status, mask

    def fork_worker(self) -> None:
        """Return in the worker. Process 1 stays, reaps orphans, passes signals on, and ends with the worker."""
        # The launcher may have been killed before the death signal was set: then its end of the pipe is closed.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if select.select([self._outside], [], [], 0)[0]:
            os._exit(1)
        worker = os.fork()
        if worker == 0:
            os.close(self._status)
            os.close(self._outside)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            return
        os.write(self._status, _wait_for(worker).to_bytes(_STATUS_BYTES, "big"))
        os._exit(0)


def own_processes(death_signal: int, group: str) -> Inside:
    """Return in process 1 of new PID and IPC namespaces; the caller stays outside and ends as the worker ends.

    The caller gets DEATH_SIGNAL when its parent, the supervisor, ends, and passes it on to the worker. The control
    group GROUP ("": none) is removed after the last process.
    """
    syscalls.unshare(syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC)
    # Block the signals and take them with sigwait(3): so none is lost between the fork and a handler.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    outside, held = os.pipe()
    reading, status = os.pipe()
    first = os.fork()
    if first != 0:
        os.close(status)
        os.close(outside)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, death_signal)
        ended = _wait_for(first)
        if group:
            cgroups.leave(Path(group))
        said = os.read(reading, _STATUS_BYTES)
        _end_as(int.from_bytes(said, "big") if said else ended)
    os.close(held)
    os.close(reading)
    return Inside(outside, status, mask)


def _wait_for(child: int) -> int:
    """The wait status of CHILD; until it ends, pass signals on to it and reap orphans."""
    while True:
        number = signal.sigwait(_WAITED_FOR)
        if number in FORWARDED:
            os.kill(child, number)
            continue
        pid = -1
        while pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                return status


def _end_as(status: int) -> NoReturn:
    """End with the exit code, or by the signal, in the wait status STATUS."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))
