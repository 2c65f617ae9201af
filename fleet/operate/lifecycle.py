"""Starting and stopping the whole fleet: what `up`, `down` and `run` share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from fleet import log, status
from fleet.errors import ExitCode, FleetError, TryLater, Unavailable, describe
from fleet.isolation import NETNS
from fleet.machine import lockfile, processes, spaces
from fleet.machine.interrupts import Interrupts, raise_if_stopped
from fleet.model import FIRST_UID, LAST_UID, Fleet, Paths, Worker
from fleet.operate import accounts, folders, ports, prepare
from fleet.operate.configuration import why_uid
from fleet.operate.folders import Folder
from fleet.programs import Installation, told_error
from fleet.supervise import ProgramState, Supervisor, last_lines, wait_until
from fleet.terminal import console

_RUNNING_SECONDS = 120.0
"""A machine that starts hundreds of browsers may take 20 s to start one Python."""
_SWEEP_SECONDS = 5.0
_PATIENCE_SECONDS = 6.0
"""A program that fails for longer than this, each time within supervisor's startsecs, will not come up."""
_log = log.get("fleet")


@contextmanager
def operator(paths: Paths) -> Iterator[None]:
    """Hold the operator's lock, so that only one such command runs; raises TryLater naming the other process."""
    folders.make(Folder(path=paths.run))

    def busy(holder: str) -> TryLater:
        return TryLater(
            f"another fleet command is running here (process {holder})", hint=f"wait for it, or: kill {holder}"
        )

    with lockfile.held(lockfile.opened(paths.operator_lock), busy):
        yield


def refuse_if_running(installation: Installation) -> None:
    """Raise TryLater when a supervisord of this installation is running."""
    pid = Supervisor(installation).pid()
    if pid is not None:
        raise TryLater(f"the fleet is already running (supervisord is process {pid})", hint="fleet down")


@contextmanager
def starting(fleet: Fleet, installation: Installation, interrupts: Interrupts) -> Iterator[None]:
    """In the block the fleet is started; when that fails or is interrupted, everything is stopped again.

    What a killed fleet has left to block the workers' UIDs stays then.
    """
    held = prepare.alone(installation)
    try:
        yield
    except BaseException:
        with interrupts.shield():
            _abandon(fleet, installation, held=held)
        raise


def launch(fleet: Fleet, installation: Installation, *, end_with_us: bool, workers: bool = True) -> Launched:
    """Prepare everything and start supervisord, which starts all programs. The caller stops it, also after an error.

    Without WORKERS the workers are prepared but not started. No other fleet is in this network namespace.
    """
    without = "" if fleet.walls is NETNS else why_uid(fleet, installation.paths) or "as fleet.toml says"
    console.say(f"isolation {fleet.isolation}: {without or 'a network namespace for each worker'}")
    console.say(f"preparing {len(fleet.members)} workers: accounts, keys, tunnels, browser")
    prepare.everything(fleet, installation, start_workers=workers)
    raise_if_stopped()
    console.say(f"starting netctl{' and the workers' if workers else ''}")
    trouble = Trouble(installation)
    with ports.kept(fleet) as keeps:
        return Launched(Supervisor(installation).start(end_with_us=end_with_us, keeps=keeps), trouble)


def wait_until_up(installation: Installation, trouble: Trouble, *, workers: bool = True) -> None:
    """Wait until every program runs (workers only if WORKERS) and netctl answers; raises FleetError if one fails."""
    supervisor = Supervisor(installation)

    def running() -> bool:
        raise_if_stopped()
        states = [state for state in supervisor.states() if workers or not state.name.startswith("worker:")]
        trouble.check(states)
        return all(state.state == "RUNNING" or _finished(state) for state in states) and _answers(installation.paths)

    def last_seen() -> str:
        waiting = [f"{state.name} {state.state}" for state in supervisor.states() if state.state != "RUNNING"]
        return ", ".join(waiting) or "netctl does not answer"

    wait_until(running, _RUNNING_SECONDS, last_seen)


def stop(fleet: Fleet | None, installation: Installation) -> bool:
    """Stop supervisord and everything under it, and remove our objects from the kernel; False when nothing ran.

    Raises TryLater when the namespace is another fleet's, before any process is killed or object removed.
    """
    ran = _shut_down(fleet, installation)
    if not accounts.netctl_exists():  # then nothing was ever made
        return ran
    with _one_end_at_a_time(installation.paths):
        prepare.alone(installation)
        sweep(installation.paths)
        prepare.nothing_left(installation)
    return ran


def end_processes(fleet: Fleet, installation: Installation) -> None:
    """Like stop, but the rules that block the workers' UIDs stay in the kernel."""
    _shut_down(fleet, installation)
    with _one_end_at_a_time(installation.paths):
        prepare.alone(installation)
        sweep(installation.paths)


def _shut_down(fleet: Fleet | None, installation: Installation) -> bool:
    wait = fleet.workers.stop_wait_seconds if fleet is not None else 60
    # netctl, the tunnels and the workers end one group after the other, each with its own wait.
    supervisor = Supervisor(installation)
    if supervisor.pid() is not None:
        console.say(f"ending the fleet; a worker may take {wait:g} s")
    ran = supervisor.shut_down(wait + 40)
    installation.paths.run_order.unlink(missing_ok=True)
    return ran


@contextmanager
def _one_end_at_a_time(paths: Paths) -> Iterator[None]:
    """Serialise two commands that stop the fleet (`fleet down` twice, or during the end of `fleet run`)."""
    folders.make(Folder(path=paths.run))
    with lockfile.waited_for(paths.run / "end.lock"):
        yield


def _abandon(fleet: Fleet, installation: Installation, *, held: bool) -> None:
    """Stop after a failed start: an error here is only logged, because the start's own error is reported."""
    try:
        (end_processes if held else stop)(fleet, installation)
        if held:
            console.say("the workers' UIDs stay blocked until the fleet is up again, or: fleet down")
    except FleetError as error:
        _log.warning("stop.incomplete", reason=str(error))


def _answers(paths: Paths) -> bool:
    try:
        status.netctl_status(paths)
    except Unavailable:
        return False
    return True


class Trouble:
    """Notices a program that will not recover by itself. Make it before the start: it reads the logs from here on."""

    def __init__(self, installation: Installation) -> None:
        self._paths = installation.paths
        self._failing_since: dict[str, float] = {}
        # Lines of an earlier run explain nothing.
        self._log_bytes = {path: path.stat().st_size for path in self._paths.logs.glob("*.log")}

    def check(self, states: Iterable[ProgramState]) -> None:
        """Raises FleetError, with the last lines of its log, for a program that failed for good."""
        now = time.monotonic()
        for state in states:
            if state.state == "BACKOFF":
                self._failing_since.setdefault(state.name, now)
            elif state.state != "STARTING":
                self._failing_since.pop(state.name, None)
            failing = now - self._failing_since.get(state.name, now) > _PATIENCE_SECONDS
            if failing or state.state == "FATAL" or _gave_up(state):
                raise self._error(state)

    def _error(self, state: ProgramState) -> FleetError:
        path = self._paths.log(state.name.rpartition(":")[2])
        how = f"ended with code {state.exit_code}" if _gave_up(state) else "does not stay up"
        lines = list(last_lines(path, since=self._log_bytes.get(path, 0)))
        words = describe(told_error("\n".join(lines), "\n".join(lines[-5:])))
        said = "\n  ".join(line for one in words for line in one.splitlines())
        return FleetError(f"{state.name} {how}; it said:\n  {said}", hint=f"its log: {path}")


class Launched(NamedTuple):
    """A fleet that was started."""

    supervisord: subprocess.Popen[bytes]
    trouble: Trouble
    """Watches its programs, from before their start."""


def _gave_up(state: ProgramState) -> bool:
    return state.ended and state.exit_code != ExitCode.DONE


def _finished(state: ProgramState) -> bool:
    return state.ended and state.exit_code == ExitCode.DONE


def sweep(paths: Paths, uids: Container[int] = range(FIRST_UID, LAST_UID + 1)) -> None:
    """Kill all processes of worker UIDs (all, or UIDS) in this network namespace and in the workers' own.

    Workers end their browsers themselves, and the kernel ends the rest with their PID namespace; this is for processes
    that neither reached. Another network namespace may hold another fleet with the same UIDs. A process may fork
    between the listing and the kill, so only two empty listings in a row are the end. Raises TryLater, naming them,
    when some do not end, or new ones start: then the rules that block their UIDs must stay.
    """
    deadline, empty_looks, killed = time.monotonic() + _SWEEP_SECONDS, 0, set[psutil.Process]()
    while empty_looks < 2:
        left = list(left_over(paths, uids))
        empty_looks = 0 if left else empty_looks + 1
        if left and time.monotonic() > deadline:
            raise _not_ended([one for one in left if one in killed], left)
        for process in left:
            _log.warning("process.left_over", pid=process.pid, command=process.info["name"])
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=_SWEEP_SECONDS / 10)
        killed.update(left)


def _not_ended(killed: list[psutil.Process], left: list[psutil.Process]) -> TryLater:
    """The error for the processes LEFT, of which KILLED had already been sent SIGKILL."""
    named = ", ".join(f"{one.pid} ({one.info['name']})" for one in killed or left)
    if killed:
        return TryLater(
            f"processes of workers do not end, even after SIGKILL: {named}; their UIDs stay blocked",
            hint="fleet down again; a process in an uninterruptible wait ends with what it waits for",
        )
    starters = processes.starters(one.pid for one in left)
    return TryLater(
        f"processes of workers come again as fast as they are killed, now {named}; their UIDs stay blocked",
        hint=f"end who starts them ({starters}), then fleet down again",
    )


def left_over(paths: Paths, uids: Container[int]) -> Iterator[psutil.Process]:
    """The processes that sweep() would kill."""
    networks = {os.stat("/proc/self/ns/net").st_ino}  # noqa: PTH116 - a magic link, not a path
    networks |= {(paths.spaces / name).stat().st_ino for name in spaces.bound(paths.spaces)}
    for process in psutil.process_iter(["name", "status"]):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            if process.info["status"] == psutil.STATUS_ZOMBIE and process.num_threads() <= 1:
                continue  # with more threads only the first has ended, and the others go on
            if _is_launcher(process, paths, uids):
                yield process
            if not (process.uids().real in uids and process.username() == f"w{process.uids().real}"):
                continue
            if os.stat(f"/proc/{process.pid}/ns/net").st_ino in networks:  # noqa: PTH116
                yield process


def _is_launcher(process: psutil.Process, paths: Paths, uids: Container[int]) -> bool:
    """Whether PROCESS is a launcher, about to become a worker; it does not notice when supervisord is killed."""
    program, spec = ["", "", *process.cmdline()][-2:] if process.uids().real == 0 else ("", "")
    if program != "launcher" or Path(spec).parent != paths.run / "launch":
        return False
    worker = Worker.named(Path(spec).name[:5])
    return worker is not None and worker.uid in uids
