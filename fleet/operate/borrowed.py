"""One worker borrowed from the fleet, whether that runs or not, and asked for something by its own launcher.

Afterwards everything is as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleet import snapshot, status
from fleet.errors import FleetError, TryLater, Unavailable
from fleet.launch_spec import LaunchSpec
from fleet.machine.files import write_durably
from fleet.machine.interrupts import Interrupts
from fleet.model import Fleet, Worker
from fleet.operate import lifecycle
from fleet.operate.ask import MOST_BYTES, ask
from fleet.programs import Installation
from fleet.sockets.wire import Message
from fleet.supervise import Supervisor
from fleet.terminal import console

_AT_WORK = {"STARTING", "RUNNING", "BACKOFF"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """The worker, of this fleet."""

    fleet: Fleet
    installation: Installation
    worker: Worker

    @contextmanager
    def held(self) -> Iterator[None]:
        """It is nobody else's in the block; raises what keeps it from that."""
        with lifecycle.operator(self.installation.paths), Interrupts() as interrupts, self._free_worker(interrupts):
            yield

    def ask(self, verb: str, order: Message, *, seconds: float, most_bytes: int = MOST_BYTES) -> str:
        """What `worker VERB` answers to ORDER, by the launcher and spec of the worker itself; raises Unanswered."""
        paths = self.installation.paths
        argv = self.installation.module("worker", verb, "--worker", self.worker.name)
        usual = LaunchSpec.of_json(paths.launch_spec(self.worker).read_text(encoding="utf-8"))
        path = paths.launch_spec(self.worker).with_name(f"{self.worker.name}-{verb}.json")
        write_durably(path, usual._replace(argv=argv).as_json().encode())
        command = self.installation.launcher(str(path))
        line = f"{order.model_dump_json()}\n"
        what = f"{self.worker.name}'s half"
        environment = self.installation.environment
        try:
            return ask(command, line, environment, seconds=seconds, what=what, most_bytes=most_bytes)
        finally:
            path.unlink()
            # Whoever has been ended in the middle left a browser behind.
            lifecycle.sweep(paths, {self.worker.uid})

    @contextmanager
    def _free_worker(self, interrupts: Interrupts) -> Iterator[None]:
        """netctl runs and this worker does not; afterwards everything is as it was."""
        supervisor = Supervisor(self.installation)
        if supervisor.pid() is not None:
            with self._stopped(supervisor, interrupts):
                yield
            return
        try:
            launched = lifecycle.launch(self.fleet, self.installation, end_with_us=True, workers=False)
            lifecycle.wait_until_up(self.installation, launched.trouble, workers=False)
            yield
        finally:
            with interrupts.shield():
                lifecycle.stop(self.fleet, self.installation)

    @contextmanager
    def _stopped(self, supervisor: Supervisor, interrupts: Interrupts) -> Iterator[None]:
        """The same in a fleet that runs."""
        program = f"worker:{self.worker.name}"
        at_work = self._at_work(supervisor, program)
        try:
            console.say(f"stopping {self.worker.name} for as long as this takes")
            supervisor.stop_program(program, self.fleet.workers.stop_wait_seconds + 10)
            yield
        finally:
            if at_work:
                with interrupts.shield():
                    self._start_again(supervisor, program)

    def _at_work(self, supervisor: Supervisor, program: str) -> bool:
        """Whether PROGRAM works; raises TryLater where the fleet that runs is not the one that is asked about."""
        states = {one.name: one.state for one in supervisor.states()}
        if program not in states:
            raise TryLater(
                f"the fleet that runs has no {self.worker.name}",
                hint="fleet status names those it has; after changes in fleet.toml: fleet down, then the same again",
            )
        if snapshot.read(self.installation.paths.snapshot).fleet.isolation != self.fleet.isolation:
            raise TryLater(
                f"the fleet that runs has another isolation than fleet.toml says ({self.fleet.isolation})",
                hint="fleet down, then the same again",
            )
        try:
            status.netctl_status(self.installation.paths)  # before a worker is stopped for nothing
        except Unavailable as error:
            hint = "fleet supervisorctl start netctl, or look at its log: fleet supervisorctl tail netctl"
            raise Unavailable("netctl does not answer, and without it there is no tunnel", hint=hint) from error
        return states[program] in _AT_WORK

    def _start_again(self, supervisor: Supervisor, program: str) -> None:
        """A worker that does not start is said; it takes nobody's report away."""
        try:
            supervisor.start_program(program)
        except FleetError as error:
            words = f"{self.worker.name} was at work and does not start again: {error}"
            console.say(f"fleet: WARNING: {words}\n  what to do: fleet supervisorctl start {program}")
