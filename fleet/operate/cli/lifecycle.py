"""`fleet up`, `fleet down`, `fleet supervisorctl`."""

from __future__ import annotations

import argparse
import os
import subprocess

from fleet import console, snapshot
from fleet.errors import ConfigurationError, ExitCode, FleetError, TryLater, Unavailable
from fleet.interrupts import Interrupts, Stopped
from fleet.model import Fleet, Paths
from fleet.operate import lifecycle
from fleet.operate.cli import places
from fleet.processes import Handle
from fleet.programs import Installation
from fleet.supervise import Supervisor


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the verbs of this file."""
    up = console.command(nouns, "up", _up, "start the whole fleet; when it runs already, say so", "fleet up", root=True)
    up.add_argument("--foreground", action="store_true", help="stay, and end the fleet on SIGTERM (for systemd)")
    places.add_workers(up)
    words = "end the whole fleet and take it out of the kernel"
    console.command(nouns, "down", _down, words, "fleet down", root=True)
    ctl = console.command(
        nouns,
        "supervisorctl",
        _supervisorctl,
        "supervisor's own tool on this fleet",
        "fleet supervisorctl restart worker:w1103",
        root=True,
    )
    ctl.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="status, start, stop, restart, tail -f ...")


def _up(arguments: argparse.Namespace) -> int:
    fleet, installation = places.load(arguments)
    with lifecycle.operator(installation.paths):
        if Supervisor(installation).pid() is not None:
            return _already_up(fleet, installation)
        child = _start(fleet, installation, foreground=arguments.foreground)
        if child is None:
            return int(ExitCode.DONE)
    return _stay(fleet, installation, child)


def _start(fleet: Fleet, installation: Installation, *, foreground: bool) -> subprocess.Popen[bytes] | None:
    """Start; when that fails or is interrupted, nothing of it stays."""
    with Interrupts() as interrupts:
        try:
            child = lifecycle.launch(fleet, installation, end_with_us=foreground)
            lifecycle.wait_until_up(installation)
        except BaseException:
            with interrupts.shield():
                lifecycle.abandon(fleet, installation)
            raise
    console.say(f"up: {len(fleet.members)} workers; see: fleet status")
    return child if foreground else None


def _stay(fleet: Fleet, installation: Installation, child: subprocess.Popen[bytes]) -> int:
    """Until supervisord ends or a signal comes; then end everything."""
    with Interrupts() as interrupts:
        try:
            with Handle(child.pid) as process:
                process.wait(None)
        except Stopped:
            with interrupts.shield():
                lifecycle.stop(fleet, installation)
            return int(ExitCode.DONE)
        with interrupts.shield():
            lifecycle.stop(fleet, installation)
    raise FleetError("supervisord ended", hint=f"see {installation.paths.log('supervisord')}")


def _already_up(fleet: Fleet, installation: Installation) -> int:
    """Whether what runs is what is asked for; raises TryLater with what differs."""
    try:
        running = snapshot.read(installation.paths.snapshot)
    except ConfigurationError:
        running = None  # a release from before there were snapshots, or with other settings in them
    hint = "fleet down, then fleet up"
    if running is None or running.release != installation.release:
        raise TryLater(f"the fleet is running, from another release than {installation.release}", hint=hint)
    if changed := snapshot.differences(running.fleet, fleet):
        raise TryLater(f"the fleet is running, with other settings: {', '.join(changed)}", hint=hint)
    console.say("the fleet is already up; see: fleet status")
    return int(ExitCode.DONE)


def _down(_: argparse.Namespace) -> int:
    paths = Paths.from_environment()
    try:
        running = snapshot.last(paths.snapshot)
    except ConfigurationError as error:  # written by another release: the fleet has to end all the same
        console.say(f"fleet: ending what runs, without its settings: {error}")
        running = None
    ran = lifecycle.stop(running.fleet if running else None, Installation(paths=paths))
    console.say("down" if ran else "the fleet was not running; nothing of it is left")
    return int(ExitCode.DONE)


def _supervisorctl(arguments: argparse.Namespace) -> int:
    installation = Installation(paths=Paths.from_environment())
    if Supervisor(installation).pid() is None:
        raise Unavailable("the fleet is not running", hint="fleet up")
    command = installation.supervisorctl(*arguments.words)
    os.execve(command[0], command, {**os.environ, **installation.environment})  # noqa: S606 - no shell is meant
