"""Borrows one worker from the fleet, which may run or not, and runs a program under the worker's own launcher.

Afterwards the fleet is as it was: a worker that was running is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@contextmanager
def under_launcher(installation: Installation, spec: Path, name: str, argv: list[str]) -> Iterator[list[str]]:
    """The command that runs ARGV under the launcher with the SPEC of a worker, under NAME; ends all processes of it."""
    usual = LaunchSpec.of_json(spec.read_text(encoding="utf-8"))
    path = spec.with_name(f"{usual.account}-{name}.json")
    write_durably(path, usual._replace(argv=argv).as_json().encode())
    try:
        yield installation.launcher(str(path))
    finally:
        path.unlink()
        # A program that was killed half way leaves its browser running.
        lifecycle.sweep(installation.paths, {usual.uid})


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """A worker of this fleet, to be held and asked."""

    fleet: Fleet
    installation: Installation
    worker: Worker

    @contextmanager
    def held(self) -> Iterator[None]:
        """The worker is stopped and stays so in the block; raises FleetError when that is not possible."""
        with lifecycle.operator(self.installation.paths), Interrupts() as interrupts, self._free_worker(interrupts):
            yield

    def ask(self, verb: str, order: Message, *, seconds: float, most_bytes: int = MOST_BYTES) -> str:
        """The answer of `worker VERB` to ORDER, run with the worker's own launcher and spec; raises Unanswered."""
        argv = self.installation.module("worker", verb, "--worker", self.worker.name)
        line, environment = f"{order.model_dump_json()}\n", self.installation.environment
        with under_launcher(self.installation, self.installation.paths.launch_spec(self.worker), verb, argv) as command:
            return ask(
                command, line, environment, seconds=seconds, what=f"{self.worker.name}'s half", most_bytes=most_bytes
            )

    @contextmanager
    def _free_worker(self, interrupts: Interrupts) -> Iterator[None]:
        """In the block netctl runs and this worker does not; afterwards the fleet is as it was."""
        supervisor = Supervisor(self.installation)
        if supervisor.pid() is not None:
            with self._stopped(supervisor, interrupts):
                yield
            return
        with lifecycle.starting(self.fleet, self.installation, interrupts):
            launched = lifecycle.launch(self.fleet, self.installation, end_with_us=True, workers=False)
            lifecycle.wait_until_up(self.installation, launched.trouble, workers=False)
        try:
            yield
        finally:
            with interrupts.shield():
                lifecycle.stop(self.fleet, self.installation)

    @contextmanager
    def _stopped(self, supervisor: Supervisor, interrupts: Interrupts) -> Iterator[None]:
        """Stop the worker of a running fleet; start it again afterwards if it was running."""
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
        """Whether PROGRAM runs; raises TryLater if the running fleet differs from FLEET, Unavailable without netctl."""
        states = {one.name: one.state for one in supervisor.states()}
        if program not in states:
            raise TryLater(
                f"the running fleet has no {self.worker.name}",
                hint="fleet status lists its workers; after changes in fleet.toml: fleet down, then the same again",
            )
        if snapshot.read(self.installation.paths.snapshot).fleet.isolation != self.fleet.isolation:
            raise TryLater(
                f"the running fleet has another isolation than fleet.toml ({self.fleet.isolation})",
                hint="fleet down, then the same again",
            )
        try:
            status.netctl_status(self.installation.paths)  # without netctl there is no use in stopping the worker
        except Unavailable as error:
            hint = "fleet supervisorctl start netctl, or look at its log: fleet supervisorctl tail netctl"
            raise Unavailable("netctl does not answer, and without it there is no tunnel", hint=hint) from error
        return states[program] in _AT_WORK

    def _start_again(self, supervisor: Supervisor, program: str) -> None:
        """Report a worker that does not start again, but still return the answer."""
        try:
            supervisor.start_program(program)
        except FleetError as error:
            words = f"{self.worker.name} was running and does not start again: {error}"
            console.say(f"fleet: WARNING: {words}\n  what to do: fleet supervisorctl start {program}")
