"""What the verbs of `fleet` do; fleet.operate.__main__ defines them and their options."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import threading
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timezone

from fleet import snapshot, status
from fleet.backends import BACKENDS
from fleet.errors import ConfigurationError, ExitCode, FleetError, RunFailed, TryLater, Unavailable, UsageError
from fleet.machine.interrupts import Interrupts, Stopped
from fleet.machine.processes import Handle
from fleet.machine.room import room
from fleet.model import Fleet, Paths
from fleet.operate import accounts, configuration, journal, lifecycle, notify, overview, prepare, progress, run, trial
from fleet.operate.doctor.check import Finding, Verdict
from fleet.operate.doctor.examine import CHECKS, fix
from fleet.operate.doctor.machine import Case, Machine
from fleet.operate.render import supervisord_conf
from fleet.operate.verify.report import text
from fleet.programs import Installation
from fleet.supervise import Supervisor
from fleet.terminal import console

_PATIENCE_SECONDS = 2.0


# --- what starts and ends something


def up(arguments: argparse.Namespace) -> None:
    fleet, installation = configuration.asked(arguments)
    with lifecycle.operator(installation.paths):
        supervisor = Supervisor(installation)
        if supervisor.pid() is not None:
            supervisor.states()  # raises while it is shutting down: then the fleet is not up
            _refuse_another(fleet, installation)
            console.say("the fleet is already up; see: fleet status")
            return
        child = _start(fleet, installation, foreground=arguments.foreground)
    if arguments.foreground:
        notify.ready()
        _stay(fleet, installation, child)


def _start(fleet: Fleet, installation: Installation, *, foreground: bool) -> subprocess.Popen[bytes]:
    with Interrupts() as interrupts, lifecycle.starting(fleet, installation, interrupts):
        launched = lifecycle.launch(fleet, installation, end_with_us=foreground)
        lifecycle.wait_until_up(installation, launched.trouble)
    console.say(f"up: {len(fleet.members)} workers; see: fleet status")
    return launched.supervisord


def _stay(fleet: Fleet, installation: Installation, child: subprocess.Popen[bytes]) -> None:
    """Wait for a signal, then stop everything.

    When supervisord ends by itself, which is an error, the workers' UIDs stay blocked until the fleet is up
    again, or `fleet down`.
    """
    with Interrupts() as interrupts:
        try:
            with Handle(child.pid) as process:
                process.wait(None)
        except Stopped:
            with interrupts.shield():
                lifecycle.stop(fleet, installation)
            return
        with interrupts.shield():
            lifecycle.end_processes(fleet, installation)
    raise FleetError("supervisord ended", hint=f"see {installation.paths.log('supervisord')}")


def _refuse_another(fleet: Fleet, installation: Installation) -> None:
    """Raise TryLater, naming the differences, when the running fleet has another release or other settings."""
    try:
        running = snapshot.read(installation.paths.snapshot)
    except ConfigurationError:
        running = None  # written by another release, with other settings in it
    hint = "fleet down, then fleet up"
    if running is None or running.release != installation.release:
        raise TryLater(f"the fleet is running, from another release than {installation.release}", hint=hint)
    if changed := snapshot.differences(running.fleet, fleet):
        raise TryLater(f"the fleet is running, with other settings: {', '.join(changed)}", hint=hint)


def down(_: argparse.Namespace) -> None:
    paths = Paths.from_environment()
    try:
        running = snapshot.last(paths.snapshot)
    except ConfigurationError as error:  # written by another release: the fleet has to end all the same
        console.say(f"fleet: stopping the fleet without its settings: {error}")
        running = None
    installation = Installation(paths=paths)
    with contextlib.ExitStack() as stack:
        if Supervisor(installation).pid() is None:  # else a fleet that another command is starting would survive
            stack.enter_context(lifecycle.operator(paths))
        ran = lifecycle.stop(running.fleet if running else None, installation)
    console.say("down" if ran else "the fleet was not running; nothing of it is left")


def supervisorctl(arguments: argparse.Namespace) -> None:
    installation = Installation(paths=Paths.from_environment())
    if Supervisor(installation).pid() is None:
        raise Unavailable("the fleet is not running", hint="fleet up")
    from fleet.operate import supervisorctl as tool  # imports all of supervisor

    os.environ.update(installation.environment)
    tool.main(installation.paths, arguments.words)


def run_loops(arguments: argparse.Namespace) -> None:
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
    made = accounts.ensure_netctl() if arguments.netctl else accounts.ensure(configuration.asked(arguments)[0])
    console.say(f"accounts made: {' '.join(made)}" if made else "every account is there")


def remove_accounts(_: argparse.Namespace) -> None:
    installation = Installation(paths=Paths.from_environment())
    with lifecycle.operator(installation.paths):  # so that no other command starts a process under them
        lifecycle.refuse_if_running(installation)
        prepare.alone(installation)
        removed = accounts.remove()
    console.say(f"removed: {' '.join(removed)}" if removed else "there was no account of the fleet")


# --- what looks, and changes nothing that runs


def render(arguments: argparse.Namespace) -> None:
    fleet, installation = configuration.asked(arguments)
    if fleet.loops_task:
        trial.refuse_mistakes(fleet.task, installation)
    chosen = arguments.backend or fleet.wireguard.backend
    if chosen == "auto":
        console.require_root("fleet render")
    backend = prepare.probe(fleet, installation) if chosen == "auto" else BACKENDS[chosen]
    console.show(supervisord_conf(fleet, installation, backend).rstrip("\n"))


def show_status(arguments: argparse.Namespace) -> int:
    """`fleet status`; returns 1 when no worker works."""
    paths = Paths.from_environment()
    started = snapshot.last(paths.snapshot)
    seen = status.take(started.fleet.members if started else (), Installation(paths=paths))
    tried = ((one, journal.attempt_failed(paths.log(one.worker))) for one in seen.workers)
    seen = seen.model_copy(
        update={"workers": tuple(one.model_copy(update={"attempt_failed": why}) for one, why in tried)}
    )
    differing = _differing(arguments, started.fleet) if started and seen.supervisor_pid is not None else []
    full = _full(paths) if seen.supervisor_pid is not None else []
    value = {**seen.model_dump(mode="json"), "works": overview.works(seen), "differing": [*differing], "full": full}
    if started and started.fleet.hub.jobs != "none":
        found = room([paths.state], started.fleet.hub.keep.free_mebibytes)
        value["room"] = {"state": found.state, "free_mebibytes": found.free_mebibytes}
        full = [*full, *([] if found.state == "has_room" else [str(found)])]
    console.answer(arguments, value, *overview.text(seen, paths, datetime.now(timezone.utc), [*full, *differing]))
    return ExitCode.DONE if overview.works(seen) else ExitCode.FAILED


def _full(paths: Paths) -> list[str]:
    """What does not happen while a disk has no room, in words."""
    needs = {paths.state: "results and leases of keys wait for room", paths.logs: "nothing is logged"}
    return [f"{folder} is full: {what}" for folder, what in needs.items() if room([folder], 1).state == "full"]


def _differing(arguments: argparse.Namespace, running: Fleet) -> list[str]:
    """How fleet.toml differs from the running fleet, in words."""
    try:
        fleet, _ = configuration.asked(arguments)
    except ConfigurationError as error:
        return [f"fleet.toml cannot be used at the next start: {error.message}"]
    changed = snapshot.differences(running, fleet)
    gone = [one.name for one in running.members if one not in fleet.members]
    return [
        *([f"fleet.toml differs from what runs: {', '.join(changed)}; to apply it: fleet reload"] if changed else []),
        *([f"running, and no longer in fleet.toml: {' '.join(gone)}"] if gone else []),
    ]


def doctor(arguments: argparse.Namespace) -> int:
    """`fleet doctor`; returns 1 when an error remains."""
    case = _case(arguments)
    findings = _findings(case)
    if arguments.fix:
        done = list(fix(case, findings))
        for line in done:
            console.say(f"fixed {line}")
        if done:
            findings = _findings(case)
    table = "", ("check", "", "what was seen"), [(one.name, one.verdict.value, one.seen) for one in findings]
    # Below the table, for each finding that is not ok: why it matters and what repairs it.
    lines = [
        f"{one.verdict.value}: {one.name}: {one.why}\n  what to do: {one.command}"
        for one in findings
        if one.verdict is not Verdict.OK
    ]
    counts = Counter(one.verdict for one in findings)
    lines.append(f"{counts[Verdict.ERROR]} errors, {counts[Verdict.WARNING]} warnings, {counts[Verdict.OK]} ok")
    console.answer(arguments, [asdict(finding) for finding in findings], *lines, table=table)
    return ExitCode.FAILED if counts[Verdict.ERROR] else ExitCode.DONE


def _case(arguments: argparse.Namespace) -> Case:
    """The case with the settings of fleet.toml; if these are invalid, with the defaults and the reason."""
    wrong = ""
    try:
        fleet, installation = configuration.asked(arguments)
    except ConfigurationError as error:
        wrong = error.message
        defaults = {"dns": {"resolvers": ["192.0.2.53"]}, "egress": {"urls": ["https://www.example.org/ip"]}}
        fleet, installation = configuration.asked(arguments, Fleet.model_validate(defaults))
        console.say("fleet doctor: fleet.toml cannot be used; checking with the defaults")
    machine = Machine()
    return Case(
        machine=machine,
        fleet=fleet,
        installation=installation,
        processes=tuple(machine.processes()),
        configuration=wrong,
        running=Supervisor(installation).pid() is not None,
    )


def _findings(case: Case) -> list[Finding]:
    """The finding of each check; a check that takes over 2 s is named while it runs."""
    found = []
    for check in CHECKS:
        words = f"fleet doctor: the check {check.name} takes longer"
        timer = threading.Timer(_PATIENCE_SECONDS, console.say, (words,))
        timer.daemon = True
        timer.start()
        try:
            found.append(check.on(case))
        finally:
            timer.cancel()
    return found


def verify(arguments: argparse.Namespace) -> int:
    """`fleet verify`; returns the report's exit code."""
    fleet, installation = configuration.asked(arguments)
    worker = fleet.worker(arguments.worker) if arguments.worker else fleet.members[0]
    interfaces = tuple(arguments.interface)
    if unknown := set(interfaces) - {name for _, name in socket.if_nameindex()}:
        raise UsageError(f"--interface: there is no {', '.join(sorted(unknown))} here", hint="ip -brief link")
    if inner := set(interfaces) & {"lo", *fleet.interfaces}:
        raise UsageError(
            f"--interface: nothing that passes {', '.join(sorted(inner))} has left this host",
            hint="name an uplink: ip route get 192.0.2.1",
        )
    from fleet.operate.verify.run import Verifier  # imports a quarter of what all other verbs need

    report = Verifier(fleet=fleet, installation=installation, worker=worker, interfaces=interfaces).run()
    console.answer(arguments, report.model_dump(mode="json"), *text(report))
    return int(report.exit_code)
