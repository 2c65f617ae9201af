"""`fleet reload`: what of fleet.toml can change while the fleet runs, worker by worker at the end of its loop.

A worker reads the settings at its start, so it is started again; netctl, the tunnels and the other workers go on.
"""

from __future__ import annotations

import argparse
import select
import time

from fleet import console, snapshot
from fleet.errors import ExitCode, TryLater, Unavailable
from fleet.interrupts import Interrupts
from fleet.model import Fleet
from fleet.operate import configuration, lifecycle, prepare
from fleet.operate.journal import Event, Log
from fleet.operate.run import loop_seconds
from fleet.operate.tasks import declared
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from fleet.supervise import Supervisor

_ENDED = {"loop.done", "loop.not_handed_in"}
"""What a worker logs at the end of a loop."""
_TAIL_BYTES = 256 << 10
_LOOK_SECONDS = 0.2
_STARTED = "worker.started"
"""What it logs once its settings are good."""
_START_SECONDS = 60.0


def reload(arguments: argparse.Namespace) -> int:
    """`fleet reload`; 1 when something has changed that only a new start applies."""
    fleet, installation = configuration.asked(arguments)
    with lifecycle.operator(installation.paths):
        if Supervisor(installation).pid() is None:
            raise Unavailable("the fleet is not running", hint="sudo fleet up starts it with fleet.toml as it is")
        running = snapshot.read(installation.paths.snapshot)
        if running.release != installation.release:
            raise TryLater("the fleet runs from another release than this one", hint="fleet down, then fleet up")
        wanted = _applicable(running.fleet, fleet)
        if changed := snapshot.differences(running.fleet, wanted):
            _apply(running, wanted, installation)
            console.say(f"applied: {', '.join(changed)}")
    if left := snapshot.differences(wanted, fleet):
        console.say(f"not applied, for it needs a new start: {', '.join(left)}\n  what to do: fleet down, fleet up")
    elif not changed:
        console.say("nothing has changed")
    return ExitCode.FAILED if left else ExitCode.DONE


def _applicable(running: Fleet, fleet: Fleet) -> Fleet:
    """RUNNING with those settings of FLEET that workers alone read."""
    browser = fleet.browser.model_copy(update={"starts_at_once": running.browser.starts_at_once})
    return running.model_copy(update={"task": fleet.task, "loop": fleet.loop, "browser": browser})


def _apply(running: Snapshot, wanted: Fleet, installation: Installation) -> None:
    """Workers that start from here on have the settings WANTED; where one cannot, the next reload begins again."""
    with Interrupts() as interrupts:
        try:
            new = {"fleet": wanted, "tasks": declared(wanted, installation)}
            snapshot.write(running.model_copy(update=new), installation.paths)
            prepare.workers(installation)
            _start_again(wanted, installation)
        except BaseException:  # a signal too
            with interrupts.shield():
                snapshot.write(running, installation.paths)
            raise


def _start_again(fleet: Fleet, installation: Installation) -> None:
    """Each worker at the end of its loop, or at once where it has ended; raises FleetError when it ends again."""
    supervisor, trouble = Supervisor(installation), lifecycle.Trouble(installation)
    states = {one.name: one for one in supervisor.states()}
    # STOPPED is somebody's `supervisorctl stop`.
    names = [one.name for one in fleet.members if states[f"worker:{one.name}"].state != "STOPPED"]
    logs = {name: Log(installation.paths.log(name)) for name in names}
    # One that rests is between two loops: nothing comes after what it logged at the end of the last.
    resting = {name for name, log in logs.items() if any(map(_is_end, [*log.read(_TAIL_BYTES)][-1:]))}
    console.say(f"starting {len(logs)} workers again, each at the end of its loop")
    deadline, starting = time.monotonic() + loop_seconds(fleet), dict[str, Log]()
    while (logs or starting) and time.monotonic() < deadline + _START_SECONDS:
        for name, log in [*logs.items()]:
            program, over = f"worker:{name}", name in resting or any(map(_is_end, log.read(_TAIL_BYTES)))
            if over or not states[program].pid or time.monotonic() > deadline:
                supervisor.stop_program(program, fleet.workers.stop_wait_seconds + 10)
                list(log.read(_TAIL_BYTES))
                supervisor.start_program(program)
                starting[name] = logs.pop(name)
        select.select([], [], [], _LOOK_SECONDS)
        trouble.check(one for one in supervisor.states() if one.name.rpartition(":")[2] in starting)
        for name, log in [*starting.items()]:
            if any(one.fields.get("event") == _STARTED for one in log.read(_TAIL_BYTES)):
                del starting[name]


def _is_end(event: Event) -> bool:
    return event.fields.get("event") in _ENDED
