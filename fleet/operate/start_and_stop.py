"""The verbs that start and end things: `fleet up`, `down`, `supervisorctl`, `run`, `accounts`."""

from __future__ import annotations

import argparse
import os
import subprocess

from fleet import console, snapshot
from fleet.errors import ConfigurationError, FleetError, RunFailed, TryLater, Unavailable
from fleet.interrupts import Interrupts, Stopped
from fleet.model import Fleet, Paths
from fleet.operate import accounts, configuration, lifecycle, progress, run
from fleet.processes import Handle
from fleet.programs import Installation
from fleet.supervise import Supervisor


def up(arguments: argparse.Namespace) -> None:
    """`fleet up`."""
    fleet, installation = configuration.asked(arguments)
    with lifecycle.operator(installation.paths):
        if Supervisor(installation).pid() is not None:
            _refuse_another(fleet, installation)
            console.say("the fleet is already up; see: fleet status")
            return
        child = _start(fleet, installation, foreground=arguments.foreground)
    if arguments.foreground:
        _stay(fleet, installation, child)


def _start(fleet: Fleet, installation: Installation, *, foreground: bool) -> subprocess.Popen[bytes]:
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
    return child


def _stay(fleet: Fleet, installation: Installation, child: subprocess.Popen[bytes]) -> None:
    """Until a signal comes, or supervisord ends, which is an error; then end everything."""
    with Interrupts() as interrupts:
        try:
            with Handle(child.pid) as process:
                process.wait(None)
        except Stopped:
            return
        finally:
            with interrupts.shield():
                lifecycle.stop(fleet, installation)
    raise FleetError("supervisord ended", hint=f"see {installation.paths.log('supervisord')}")


def _refuse_another(fleet: Fleet, installation: Installation) -> None:
    """Raise TryLater, with what differs, where what runs is not what is asked for."""
    try:
        running = snapshot.read(installation.paths.snapshot)
    except ConfigurationError:
        running = None  # a release from before there were snapshots, or with other settings in them
    hint = "fleet down, then fleet up"
    if running is None or running.release != installation.release:
        raise TryLater(f"the fleet is running, from another release than {installation.release}", hint=hint)
    if changed := snapshot.differences(running.fleet, fleet):
        raise TryLater(f"the fleet is running, with other settings: {', '.join(changed)}", hint=hint)


def down(_: argparse.Namespace) -> None:
    """`fleet down`."""
    paths = Paths.from_environment()
    try:
        running = snapshot.last(paths.snapshot)
    except ConfigurationError as error:  # written by another release: the fleet has to end all the same
        console.say(f"fleet: ending what runs, without its settings: {error}")
        running = None
    ran = lifecycle.stop(running.fleet if running else None, Installation(paths=paths))
    console.say("down" if ran else "the fleet was not running; nothing of it is left")


def supervisorctl(arguments: argparse.Namespace) -> None:
    """`fleet supervisorctl`."""
    installation = Installation(paths=Paths.from_environment())
    if Supervisor(installation).pid() is None:
        raise Unavailable("the fleet is not running", hint="fleet up")
    command = installation.supervisorctl(*arguments.words)
    os.execve(command[0], command, {**os.environ, **installation.environment})  # noqa: S606 - no shell is meant


def run_loops(arguments: argparse.Namespace) -> None:
    """`fleet run`."""
    fleet, installation = configuration.asked(arguments)
    with progress.display() as show:
        report = run.run(fleet, installation, arguments.loops, show)
    table = progress.summary(report), progress.COLUMNS, [progress.row(item) for item in report.runs]
    console.answer(arguments, report.model_dump(mode="json"), table=table)
    if not report.ok:
        words = [report.trouble or progress.summary(report), *progress.reasons(report)]
        hint = f"screenshots: {installation.paths.state}/workers/*/spool; logs: {installation.paths.logs}"
        raise RunFailed("\n".join(words), hint=hint)


def make_accounts(arguments: argparse.Namespace) -> None:
    """`fleet accounts make`."""
    made = accounts.ensure_netctl() if arguments.netctl else accounts.ensure(configuration.asked(arguments)[0])
    console.say(f"made: {' '.join(made)}" if made else "every account is there")


def remove_accounts(_: argparse.Namespace) -> None:
    """`fleet accounts remove`."""
    lifecycle.refuse_if_running(Installation(paths=Paths.from_environment()))
    removed = accounts.remove()
    console.say(f"removed: {' '.join(removed)}" if removed else "there was no account of ours")
