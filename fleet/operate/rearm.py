"""Restarts programs that supervisord has given up (FATAL), slowly: after five minutes, then ten, up to an hour.

supervisord runs this as an event listener and sends an event for each program that it gives up. It runs as root,
because only root may use supervisord's socket, and takes input from nobody else. FATAL is a separate event: a program
that ends within its startsecs never sends EXITED. It also records which programs an operator has stopped, so that the
hub's page can tell them from missing ones.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from dataclasses import dataclass, field

from fleet import log
from fleet.errors import FleetError
from fleet.given_up import All, GivenUp
from fleet.machine.files import write_durably
from fleet.model import Paths
from fleet.programs import Installation
from fleet.supervise import Supervisor
from fleet.terminal import console

FIRST_SECONDS = 300.0
LONGEST_SECONDS = 3600.0
_GATHER_SECONDS = 0.3
"""From an event until the states are read: hundreds of workers may start and stop at the same time."""
_AGAIN_SECONDS = 2.0
_READY, _DONE = b"READY\n", b"RESULT 2\nOK"


@dataclass
class Waits:
    """The programs that wait for their next start. Pure: the caller passes the time."""

    first_seconds: float = FIRST_SECONDS
    waiting: dict[str, float] = field(default_factory=dict)
    """When each program is started again (monotonic seconds)."""
    times: dict[str, int] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)

    def heard(self, name: str, now: float) -> bool:
        """NAME was given up; schedule its start. Returns False when it was scheduled already.

        A program that ran for two of the longest waits since its last start begins with the first wait again.
        """
        if name in self.waiting:
            return False
        if now - self._last.get(name, now) > 2 * LONGEST_SECONDS:
            self.times[name] = 0
        times = self.times[name] = self.times.get(name, 0) + 1
        self.waiting[name] = now + min(self.first_seconds * 2.0 ** min(times - 1, 10), LONGEST_SECONDS)
        return True

    def due(self, now: float) -> list[str]:
        """Take and return the programs whose time has come."""
        found = [name for name, at in self.waiting.items() if at <= now]
        for name in found:
            del self.waiting[name]
            self._last[name] = now
        return found

    def seconds(self, now: float) -> float | None:
        """Seconds until the next start; None: none is scheduled."""
        return max(0.0, min(self.waiting.values()) - now) if self.waiting else None


class Rearm:
    """The event listener: events come on standard input, standard output is for the protocol."""

    def __init__(self, paths: Paths, waits: Waits) -> None:
        self._paths, self._waits = paths, waits
        self._supervisor = Supervisor(Installation(paths=paths))
        self._log = log.get("rearm")
        self._heard = b""
        self._look_at: float | None = None
        self._stopped: tuple[str, ...] = ()
        self._told: All | None = None

    def run(self) -> None:
        """Run until supervisord closes the pipe."""
        self._look()
        os.write(1, _READY)
        while True:
            ready, _, _ = select.select([0], [], [], self._seconds(time.monotonic()))
            if ready:
                if not (data := os.read(0, 65_536)):
                    return
                self._heard += data
                while self._event():
                    self._look_at = self._look_at or time.monotonic() + _GATHER_SECONDS
                    os.write(1, _DONE + _READY)
            if self._look_at is not None and self._look_at <= time.monotonic():
                self._look()
            for name in self._waits.due(time.monotonic()):
                self._start(name)

    def _seconds(self, now: float) -> float | None:
        due = [self._waits.seconds(now), None if self._look_at is None else max(0.0, self._look_at - now)]
        return min((one for one in due if one is not None), default=None)

    def _event(self) -> bool:
        """Take one event from the input, if it is complete (supervisord.org, Event Listeners)."""
        header, found, rest = self._heard.partition(b"\n")
        if not found:
            return False
        length = int(_fields(header)["len"])
        if len(rest) < length:
            return False
        self._heard = rest[length:]
        return True

    def _look(self) -> None:
        """Read which programs are FATAL or stopped. An event only says when to look, as it may be out of date."""
        try:
            found = self._supervisor.states()
        except FleetError as error:  # it is busy, or about to end, which ends this program too
            self._log.debug("supervisord.mute", error=error.message)
            self._look_at = time.monotonic() + _AGAIN_SECONDS
            return
        now, self._look_at = time.monotonic(), None
        self._stopped = tuple(sorted(one.name for one in found if one.stopped))
        for name in (one.name for one in found if one.state == "FATAL"):
            if self._waits.heard(name, now):
                seconds, times = round(self._waits.waiting[name] - now, 1), self._waits.times[name]
                self._log.error("program.given_up", program=name, again_in_seconds=seconds, times=times)
        self._write()

    def _start(self, name: str) -> None:
        try:
            states = {one.name: one.state for one in self._supervisor.states()}
            if states.get(name) == "FATAL":  # else an operator has started it meanwhile
                self._log.warning("program.again", program=name, times=self._waits.times[name])
                self._supervisor.begin_program(name)
        except FleetError as error:
            self._log.error("program.not_started", program=name, error=error.message)
            self._waits.heard(name, time.monotonic())
        self._write()

    def _write(self) -> None:
        ahead = time.time() - time.monotonic()
        programs = tuple(
            GivenUp(name=name, again_at=round(at + ahead, 1), times=self._waits.times[name])
            for name, at in sorted(self._waits.waiting.items())
        )
        if (told := All(programs=programs, stopped=self._stopped)) != self._told:
            write_durably(self._paths.given_up, told.model_dump_json().encode(), 0o640)
            self._told = told


def _fields(line: bytes) -> dict[str, str]:
    return dict(word.split(":", 1) for word in line.decode(errors="replace").split() if ":" in word)


def _run(arguments: argparse.Namespace) -> None:
    Rearm(Paths.from_environment(), Waits(first_seconds=arguments.first_seconds)).run()


def main() -> None:
    """Run under supervisord."""
    made = console.parser("rearm", "Start what supervisord has given up once more.", "run by supervisord")
    made.add_argument("--first-seconds", type=float, default=FIRST_SECONDS, metavar="S", help="the first wait")
    made.set_defaults(run=_run, parser=made)
    console.main(made, sys.argv[1:])


if __name__ == "__main__":
    main()
