"""supervisord over its Unix socket: start it, wait for states, stop it.

Supervisor's states are its own words (STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL,
UNKNOWN); a program is `netctl`, `wg:wg101` or `worker:w1101`, as supervisorctl says it.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import socket
import subprocess
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import tenacity

from fleet import log
from fleet.errors import ExitCode, FleetError, NotInTime, TryLater, Unavailable
from fleet.machine.interrupts import deferred
from fleet.machine.processes import PROC, Handle
from fleet.programs import Installation

_ANSWER_SECONDS = 10.0
_START_SECONDS = 20.0
_LAST_SECONDS = 2.0
"""From the end of its socket to its own."""
_SHUTDOWN_STATE = 6
"""supervisor.xmlrpc.Faults; not imported, for the module brings all of supervisor along."""
_KEPT = (3, 4)
"""At a reload supervisord closes everything from 5 on (cleanup_fds in supervisor/options.py)."""
_ABOVE = 64
_ENDED = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
_log = log.get("fleet")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramState:
    """One program as supervisord sees it."""

    name: str
    state: str
    pid: int
    """0 when it is not running."""
    exit_code: int
    """Of its last end after it had been running."""
    up_seconds: int
    message: str
    stopped: bool = False
    """Whether it ran, was told to end, and has; one that was never started is not."""

    @property
    def ended(self) -> bool:
        """Whether it ended for good: after any other code supervisord is about to start it again."""
        return self.state == "EXITED" and self.exit_code in ExitCode.final()


class _UnixTransport(xmlrpc.client.Transport):
    """A fresh connection to a Unix socket for each question, with a time-out, which supervisor's own has not."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("localhost")
        made.sock = socket.socket(socket.AF_UNIX)
        made.sock.settimeout(_ANSWER_SECONDS)
        made.sock.connect(str(self._path))
        return made


class Supervisor:
    """The supervisord of one installation, running or not."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._proxy = xmlrpc.client.ServerProxy(
            "http://localhost/RPC2", transport=_UnixTransport(installation.paths.supervisor_socket)
        )

    def pid(self) -> int | None:
        """supervisord's process, None when none answers (a socket file alone is a left-over)."""
        try:
            return cast(int, self._ask("getPID"))
        except Unavailable as error:
            return self._written_pid() if _says_that_it_ends(error) else None

    def states(self) -> tuple[ProgramState, ...]:
        """Every program; raises Unavailable when supervisord does not answer, or ends its programs."""
        found = cast("list[dict[str, object]]", self._ask("getAllProcessInfo"))
        return tuple(_state(item) for item in found)

    def states_or_none(self) -> tuple[ProgramState, ...]:
        """The same; none where it does not say."""
        try:
            return self.states()
        except Unavailable:
            return ()

    def start(self, *, end_with_us: bool, keeps: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start supervisord as our child and wait until it answers; the programs then start by themselves.

        It holds the open descriptors KEEPS (two at most), which its programs do not get, until its end.

        It lives in a session of its own: a Ctrl-C at the terminal is for the operator's program, which
        then ends supervisord in order. END_WITH_US also ends it when we are killed.
        """
        installation = self.installation
        bound = ["setpriv", "--pdeathsig=TERM"] if end_with_us else []
        said = installation.paths.log("supervisord-start")
        with said.open("wb") as errors, _numbered(keeps) as places:
            child = subprocess.Popen(
                [*bound, *installation.supervisord("--nodaemon", "-c", str(installation.paths.supervisor_config))],
                env=installation.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                pass_fds=[*places.values()],
                preexec_fn=lambda: [os.dup2(one, place) for one, place in places.items()] and None,  # noqa: PLW1509
            )
        try:
            self._wait_for_answer(child, said)
        except BaseException:
            child.terminate()
            raise
        _log.debug("supervisord.started", pid=child.pid)
        return child

    def _wait_for_answer(self, child: subprocess.Popen[bytes], said: Path) -> None:
        def gone() -> bool:
            return child.poll() is not None

        wait_until(lambda: gone() or self.pid() == child.pid, _START_SECONDS, lambda: "supervisord does not answer")
        if gone():
            raise FleetError(
                f"supervisord ended at once with code {child.returncode}: {' '.join(last_lines(said))}",
                hint=f"see {self.installation.paths.log('supervisord')}",
            )

    def stop_program(self, name: str, deadline_seconds: float) -> None:
        """End the program NAME and wait until it has; one that does not run is fine. Raises FleetError."""
        if self._state_of(name) not in _ENDED:
            self.end_program(name)
            self._wait_for_state(name, _ENDED, deadline_seconds)

    def start_program(self, name: str) -> None:
        """Start the program NAME and wait until it has been running for supervisor's startsecs. Raises FleetError."""
        self.begin_program(name)
        self._wait_for_state(name, {"RUNNING"}, _START_SECONDS)

    def begin_program(self, name: str) -> None:
        """Start the program NAME; what becomes of it is seen later. Raises FleetError."""
        self._ask("startProcess", name, False)

    def end_program(self, name: str) -> None:
        """Tell the program NAME to end; what becomes of it is seen later. Raises FleetError."""
        self._ask("stopProcess", name, False)

    def update(self, group: str) -> None:
        """GROUP has the programs that supervisord.conf gives it now; those that leave have ended. Raises FleetError."""
        self._ask("reloadConfig")
        self._ask("fleet.update", group)

    def keep_ports(self, first_uid: int, last_uid: int) -> str:
        """supervisord keeps the ports of these workers' browsers for their owners; says why where it cannot."""
        return str(self._ask("fleet.keepPorts", first_uid, last_uid))

    def _wait_for_state(self, name: str, wanted: Set[str], deadline_seconds: float) -> None:
        wait_until(
            lambda: self._state_of(name) in wanted, deadline_seconds, lambda: f"{name} is {self._state_of(name)}"
        )

    def _state_of(self, name: str) -> str:
        return next((item.state for item in self.states() if item.name == name), "UNKNOWN")

    def shut_down(self, deadline_seconds: float) -> bool:
        """End every program and supervisord; False when none was running. Raises FleetError after the deadline."""
        pid = self.pid()
        if pid is None:
            self._refuse_mute()
            return False
        try:
            process = Handle(pid)
        except ProcessLookupError:
            return True  # somebody else's end of it came first
        with process:
            try:
                self._ask("shutdown")
            except Unavailable as error:
                if not (_says_that_it_ends(error) or process.wait(_LAST_SECONDS)):
                    raise
            if not process.wait(deadline_seconds):
                states = ", ".join(f"{item.name} {item.state}" for item in self.states_or_none())
                raise FleetError(
                    f"supervisord ({pid}) did not end within {deadline_seconds:g} s; last seen: {states or 'nothing'}",
                    hint=f"kill -9 {pid}, then fleet down again",
                )
        _log.debug("supervisord.ended", pid=pid)
        return True

    def _refuse_mute(self) -> None:
        """Raise TryLater for a supervisord that runs and does not answer: it would start all again when it goes on."""
        pid = self._written_pid()
        if pid is None:
            return
        try:
            with Handle(pid) as process:
                mute = not process.wait(_LAST_SECONDS)
        except OSError:
            return  # it has just ended
        if mute:
            raise TryLater(f"supervisord ({pid}) does not answer", hint=f"kill -9 {pid}, then fleet down again")

    def _written_pid(self) -> int | None:
        """The process of the pid file, None when that is no supervisord of this fleet."""
        paths = self.installation.paths
        try:
            pid = int(paths.supervisor_pid.read_text())
            words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(paths.supervisor_config) in words else None

    def _ask(self, method: str, *arguments: str | bool | int) -> object:
        """supervisord's own METHOD, or one of another of its interfaces (`fleet.update`)."""
        try:
            with deferred():
                return getattr(self._proxy, method if "." in method else f"supervisor.{method}")(*arguments)
        except xmlrpc.client.Fault as error:
            if error.faultCode == _SHUTDOWN_STATE:
                raise Unavailable("supervisord ends its programs", hint="try again when it has ended") from error
            raise FleetError(f"supervisord refused {method}: {error.faultString}") from error
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise Unavailable("supervisord does not answer", hint="fleet up") from error


@contextmanager
def _numbered(keeps: Sequence[int]) -> Iterator[dict[int, int]]:
    """For copies of KEEPS, which last as long as this, the numbers that they get in a child."""
    # The first copies fill those numbers here, so that nothing of subprocess's own, in the child, has one of them.
    copies = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, least) for least in (min(_KEPT), _ABOVE) for one in keeps]
    try:
        yield dict(zip(copies[len(keeps) :], _KEPT, strict=False))
    finally:
        for one in copies:
            os.close(one)


def _says_that_it_ends(error: Unavailable) -> bool:
    """Whether this is the one answer that supervisord has while it ends its programs."""
    return isinstance(error.__cause__, xmlrpc.client.Fault)


def wait_until(condition: Callable[[], bool], deadline_seconds: float, last_state: Callable[[], str]) -> None:
    """Return once CONDITION holds; raises FleetError with LAST_STATE when it does not in time."""
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(deadline_seconds),
        wait=tenacity.wait_fixed(0.05),
        retry=tenacity.retry_if_exception_type(NotInTime),
        reraise=True,
    ):
        with attempt:
            if not condition():
                raise NotInTime(f"not within {deadline_seconds:g} s: {last_state()}")


def last_lines(path: Path, count: int = 15, since: int = 0) -> Iterator[str]:
    """The last COUNT lines of a log file behind byte SINCE, nothing when there is none."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            begin = since if since <= size else 0  # a smaller file is a rotated one
            file.seek(max(begin, size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    yield from lines[-count:]


def _state(item: dict[str, object]) -> ProgramState:
    name, group = str(item["name"]), str(item["group"])
    start, now = cast(int, item["start"]), cast(int, item["now"])
    running = item["statename"] == "RUNNING"
    return ProgramState(
        name=name if name == group else f"{group}:{name}",
        state=str(item["statename"]),
        pid=cast(int, item["pid"]),
        exit_code=cast(int, item["exitstatus"]),
        up_seconds=now - start if running else 0,
        message=str(item["spawnerr"]) or str(item["description"]),
        stopped=item["statename"] == "STOPPED" and cast(int, item["stop"]) > 0,
    )
