"""`fleet reload`: applies what can change in fleet.toml while the fleet runs, to each worker at the end of its loop.

A worker reads the settings at its start, so it is restarted; the tunnels and the other workers go on.
fleet.operate.members adds and removes workers.
"""

from __future__ import annotations

import argparse
import select
import time
from collections.abc import Iterable, Iterator

from fleet import snapshot
from fleet.errors import ExitCode, TryLater, Unavailable
from fleet.isolation import UID
from fleet.machine.interrupts import Interrupts
from fleet.model import Fleet, Worker
from fleet.operate import configuration, lifecycle, prepare
from fleet.operate.journal import Log
from fleet.operate.members import Members
from fleet.operate.run import loop_seconds
from fleet.operate.tasks import declared
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from fleet.supervise import Supervisor
from fleet.terminal import console

_ENDED = {"loop.done", "loop.not_handed_in"}
"""What a worker logs at the end of a loop."""
_BEGUN = "stage.begun"
"""What a worker logs first in a loop."""
_TAIL_BYTES = 256 << 10
_LOOK_SECONDS = 0.2
_STARTED = "worker.started"
"""What a worker logs once it has accepted its settings."""
_START_SECONDS = 60.0
_COUNT = "workers.count"


def reload(arguments: argparse.Namespace) -> int:
    """`fleet reload`; returns 1 when a change needs a restart of the whole fleet."""
    fleet, installation = configuration.asked(arguments)
    with lifecycle.operator(installation.paths):
        if Supervisor(installation).pid() is None:
            raise Unavailable("the fleet is not running", hint="sudo fleet up starts it with fleet.toml as it is")
        running = snapshot.read(installation.paths.snapshot)
        if running.release != installation.release:
            raise TryLater("the fleet runs from another release than this one", hint="fleet down, then fleet up")
        wanted = _applicable(running.fleet, fleet)
        members, changed = Members(wanted, installation), snapshot.differences(running.fleet, wanted)
        if members.differ and not changed:  # an earlier reload was killed
            changed = (_COUNT,)
        if changed:
            _apply(running, wanted, members, installation)
            console.say(f"applied: {', '.join(changed)}")
    if left := snapshot.differences(wanted, fleet):
        console.say(f"not applied, because it needs a restart: {', '.join(left)}\n  what to do: fleet down, fleet up")
    elif not changed:
        console.say("nothing has changed")
    return ExitCode.FAILED if left else ExitCode.DONE


def _applicable(running: Fleet, fleet: Fleet) -> Fleet:
    """RUNNING with those settings of FLEET that only workers read, and its number of workers if that can change."""
    browser = fleet.browser.model_copy(update={"starts_at_once": running.browser.starts_at_once})
    applied = running.model_copy(update={"task": fleet.task, "loop": fleet.loop, "browser": browser})
    # A joining worker's placeholder goes on `lo`: an address event, which a Chrome with netlink access would hear.
    heard = running.walls is UID and not running.workers.deny_netlink
    if heard or running.workers.first_uid != fleet.workers.first_uid:
        return applied
    return configuration.with_workers(applied, fleet.workers.count, _COUNT)


def _apply(running: Snapshot, wanted: Fleet, members: Members, installation: Installation) -> None:
    """Give all workers the settings WANTED; if one fails, restore the snapshot RUNNING and raise."""
    before = configuration.with_workers(wanted, running.fleet.workers.count, _COUNT)
    after, turns = running.model_copy(update={"fleet": wanted}), _Turns(wanted, installation)
    with Interrupts() as interrupts:
        try:
            if members.differ:
                members.prepare()
            if snapshot.differences(running.fleet, before):
                after = after.model_copy(update={"tasks": declared(wanted, installation)})
                snapshot.write(after.model_copy(update={"fleet": before}), installation.paths)
                prepare.workers(installation)
                turns.start_again(one for one in before.members if one not in members.leaving)
            turns.end(members.leaving)
        except BaseException:  # a signal too
            with interrupts.shield():
                snapshot.write(running, installation.paths)
                turns.stay()
            raise
        if members.differ:
            with interrupts.shield():
                turns.join(members.joining)
                members.change(after)
            turns.wait()


class _Turns:
    """Stops each worker at the end of its loop, or at once if it has ended, and restarts it unless it leaves."""

    def __init__(self, fleet: Fleet, installation: Installation) -> None:
        self._fleet, self._paths = fleet, installation.paths
        self._supervisor, self._trouble = Supervisor(installation), lifecycle.Trouble(installation)
        self._ending, self._starting = dict[str, Log](), dict[str, Log]()
        self._leaving, self._left = set[str](), list[str]()

    def start_again(self, workers: Iterable[Worker]) -> None:
        """Restart WORKERS, except those that an operator has stopped, or that an interrupted reload did not add."""
        there = {one.name for one in self._supervisor.states() if one.state != "STOPPED"}
        names = [one.name for one in workers if f"worker:{one.name}" in there]
        console.say(f"restarting {len(names)} workers, each at the end of its loop")
        self._ending |= {name: Log(self._paths.log(name)) for name in names}

    def end(self, leaving: Iterable[Worker]) -> None:
        """Wait until all restarts are done and LEAVING have ended. Raises FleetError when a restarted one fails."""
        self._leaving = {one.name for one in leaving}
        if self._leaving:
            console.say(f"ending {' '.join(sorted(self._leaving))}, each at the end of its loop")
            self._ending |= {name: Log(self._paths.log(name)) for name in self._leaving}
        self.wait()

    def stay(self) -> None:
        """Start the workers again that have left."""
        for name in self._left:
            self._supervisor.begin_program(f"worker:{name}")

    def join(self, workers: Iterable[Worker]) -> None:
        """Watch WORKERS, which are about to start, from the present end of their logs on."""
        for one in workers:
            log = self._starting[one.name] = Log(self._paths.log(one.name))
            list(log.read(_TAIL_BYTES))

    def wait(self) -> None:
        """Wait until every worker that has to end has ended, and every one that has to start has started."""
        states = {one.name: one for one in self._supervisor.states()}
        resting = {name: _rests(_events(log)) for name, log in self._ending.items()}
        deadline = time.monotonic() + loop_seconds(self._fleet)
        while (self._ending or self._starting) and time.monotonic() < deadline + _START_SECONDS:
            for name, log in [*self._ending.items()]:
                events = [*_events(log)]
                over = (resting[name] and not events) or not _ENDED.isdisjoint(events)
                resting[name] = _rests(events, resting[name])
                if over or not states[f"worker:{name}"].pid or time.monotonic() > deadline:
                    self._end_one(name, self._ending.pop(name))
            select.select([], [], [], _LOOK_SECONDS)
            self._trouble.check(
                one for one in self._supervisor.states() if one.name.rpartition(":")[2] in self._starting
            )
            for name, log in [*self._starting.items()]:
                if _STARTED in _events(log):
                    del self._starting[name]

    def _end_one(self, name: str, log: Log) -> None:
        program = f"worker:{name}"
        self._supervisor.stop_program(program, self._fleet.workers.stop_wait_seconds + 10)
        if name in self._leaving:
            self._left.append(name)
            return
        list(log.read(_TAIL_BYTES))
        self._supervisor.start_program(program)
        self._starting[name] = log


def _events(log: Log) -> Iterator[str]:
    """The events that the worker has logged since the last call."""
    return (str(one.fields.get("event")) for one in log.read(_TAIL_BYTES))


def _rests(events: Iterable[str], before: bool = False) -> bool:
    """Whether the worker is between two loops after EVENTS; BEFORE says whether it was before them.

    With `hub.jobs = "only"` it may wait like that for hours, and log, for example, that the hub does not answer.
    """
    for one in events:
        before = one != _BEGUN if one in (*_ENDED, _STARTED, _BEGUN) else before
    return before
