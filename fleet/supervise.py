"""Controls supervisord over its Unix socket: starts it, waits for states, stops it.

States are supervisor's words (STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL, UNKNOWN);
a program is `netctl`, `wg:wg101` or `worker:w1101`, as in supervisorctl.
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
"""How long supervisord may take to end after its socket has closed."""
_SHUTDOWN_STATE = 6
"""From supervisor.xmlrpc.Faults, which would import all of supervisor."""
_KEPT = (3, 4)
"""Descriptors that survive a reload: supervisord closes all from 5 on (cleanup_fds in supervisor/options.py)."""
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
    """The code of its last exit after it had been running."""
    up_seconds: int
    message: str
    stopped: bool = False
    """Whether it was running and was stopped on request; False for a program that was never started."""

    @property
    def ended(self) -> bool:
        """Whether it ended for good: after any other exit code supervisord restarts it."""
        return self.state == "EXITED" and self.exit_code in ExitCode.final()


class _UnixTransport(xmlrpc.client.Transport):
    """Makes a new connection to a Unix socket for each call, with a time-out, which supervisor's transport lacks."""

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
        """The pid of supervisord; None when none answers (a socket file alone is a left-over)."""
        try:
            return cast(int, self._ask("getPID"))
        except Unavailable as error:
            return self._written_pid() if _says_that_it_ends(error) else None

    def states(self) -> tuple[ProgramState, ...]:
        """The state of every program; raises Unavailable when supervisord does not answer or is shutting down."""
        found = cast("list[dict[str, object]]", self._ask("getAllProcessInfo"))
        return tuple(_state(item) for item in found)

    def states_or_none(self) -> tuple[ProgramState, ...]:
        """The same, but empty when supervisord does not answer."""
        try:
            return self.states()
        except Unavailable:
            return ()

    def start(self, *, end_with_us: bool, keeps: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start supervisord as our child and wait until it answers; the programs then start by themselves.

        It keeps the open descriptors KEEPS (at most two) until its end; its programs do not get them.

        It has its own session, so that a Ctrl-C at the terminal reaches only the operator's program, which
        then stops supervisord in order. END_WITH_US also ends it when we are killed.
        """
        installation = self.installation
        bound = ["setpriv", "--pdeathsig=TERM"] if end_with_us else []
        said = installation.paths.run / "supervisord-start.log"  # the disk of the logs may be full
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
        """Stop the program NAME and wait for its end; no error when it does not run. Raises FleetError."""
        if self._state_of(name) not in _ENDED:
            self.end_program(name)
            self._wait_for_state(name, _ENDED, deadline_seconds)

    def start_program(self, name: str) -> None:
        """Start the program NAME and wait until it has been running for supervisor's startsecs. Raises FleetError."""
        self.begin_program(name)
        self._wait_for_state(name, {"RUNNING"}, _START_SECONDS)

    def begin_program(self, name: str) -> None:
        """Start the program NAME without waiting. Raises FleetError."""
        self._ask("startProcess", name, False)

    def end_program(self, name: str) -> None:
        """Stop the program NAME without waiting. Raises FleetError."""
        self._ask("stopProcess", name, False)

    def update(self, group: str) -> None:
        """Give GROUP the programs of the present supervisord.conf; those that leave must have ended. FleetError."""
        self._ask("reloadConfig")
        self._ask("fleet.update", group)

    def keep_ports(self, first_uid: int, last_uid: int) -> str:
        """Let supervisord reserve these workers' browser ports for their owners; returns why not, or ""."""
        return str(self._ask("fleet.keepPorts", first_uid, last_uid))

    def _wait_for_state(self, name: str, wanted: Set[str], deadline_seconds: float) -> None:
        wait_until(
            lambda: self._state_of(name) in wanted, deadline_seconds, lambda: f"{name} is {self._state_of(name)}"
        )

    def _state_of(self, name: str) -> str:
        return next((item.state for item in self.states() if item.name == name), "UNKNOWN")

    def shut_down(self, deadline_seconds: float) -> bool:
        """Stop all programs and supervisord; False when it was not running. Raises FleetError after the deadline."""
        pid = self.pid()
        if pid is None:
            self._refuse_mute()
            return False
        try:
            process = Handle(pid)
        except ProcessLookupError:
            return True  # another command has ended it first
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
        """Raise TryLater when supervisord runs but does not answer: once it goes on, it would restart everything."""
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
        """The pid in the pid file; None when that is no supervisord of this fleet."""
        paths = self.installation.paths
        try:
            pid = int(paths.supervisor_pid.read_text())
            words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(paths.supervisor_config) in words else None

    def _ask(self, method: str, *arguments: str | bool | int) -> object:
        """Call METHOD of supervisord's own interface, or of another one (`fleet.update`)."""
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
    """Duplicates of KEEPS, open in the block: descriptor here -> its number in the child."""
    # The first duplicates occupy these numbers here, so that subprocess's own pipes do not get them in the child.
    copies = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, least) for least in (min(_KEPT), _ABOVE) for one in keeps]
    try:
        yield dict(zip(copies[len(keeps) :], _KEPT, strict=False))
    finally:
        for one in copies:
            os.close(one)


def _says_that_it_ends(error: Unavailable) -> bool:
    """Whether ERROR is the only answer that supervisord gives while it shuts down."""
    return isinstance(error.__cause__, xmlrpc.client.Fault)


def wait_until(condition: Callable[[], bool], deadline_seconds: float, last_state: Callable[[], str]) -> None:
    """Wait until CONDITION holds; raises NotInTime with LAST_STATE at the deadline."""
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
    """The last COUNT lines of a log file after byte SINCE; nothing when there is no file."""
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
