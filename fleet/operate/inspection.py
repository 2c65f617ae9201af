"""The verbs that look and change nothing that runs: `fleet render`, `status`, `doctor`, `verify`."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
from collections import Counter
from dataclasses import asdict

from fleet import console, snapshot, status
from fleet.backends import BACKENDS
from fleet.errors import ConfigurationError, ExitCode, UsageError
from fleet.model import Fleet, Paths
from fleet.operate import configuration, prepare
from fleet.operate.doctor.check import Finding, Verdict
from fleet.operate.doctor.examine import CHECKS, fix
from fleet.operate.doctor.machine import Case, Machine
from fleet.operate.render import supervisord_conf
from fleet.operate.verify.report import text
from fleet.operate.verify.run import Verifier
from fleet.programs import Installation
from fleet.supervise import Supervisor

_PATIENCE_SECONDS = 2.0


def render(arguments: argparse.Namespace) -> None:
    """`fleet render`."""
    fleet, installation = configuration.asked(arguments)
    chosen = arguments.backend or fleet.wireguard.backend
    if chosen == "auto":
        console.require_root("fleet render")
    backend = prepare.probe(fleet, installation) if chosen == "auto" else BACKENDS[chosen]
    sys.stdout.write(supervisord_conf(fleet, installation, backend))


def show_status(arguments: argparse.Namespace) -> int:
    """`fleet status`; 1 when the fleet does not run."""
    paths = Paths.from_environment()
    started = snapshot.last(paths.snapshot)
    seen = status.take(started.fleet.members if started else (), Installation(paths=paths))
    table = status.summary(seen), status.COLUMNS, list(status.rows(seen))
    console.answer(arguments, seen.model_dump(mode="json"), table=table)
    return ExitCode.DONE if seen.supervisor_pid is not None else ExitCode.FAILED


def doctor(arguments: argparse.Namespace) -> int:
    """`fleet doctor`; 1 when an error remains."""
    case = _case(arguments)
    findings = _findings(case)
    if arguments.fix:
        done = list(fix(case, findings))
        for line in done:
            console.say(f"fixed {line}")
        if done:
            findings = _findings(case)
    table = "", ("check", "", "what was seen"), [(one.name, one.verdict.value, one.seen) for one in findings]
    # Below it, for whatever is not ok, why it matters and what mends it.
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
    """The settings where they can be read; else the defaults, and what is wrong with them."""
    wrong = ""
    try:
        fleet, installation = configuration.asked(arguments)
    except ConfigurationError as error:
        wrong = error.message
        defaults = {"dns": {"resolvers": ["192.0.2.53"]}, "egress": {"urls": ["https://www.example.org/ip"]}}
        fleet, installation = configuration.asked(arguments, Fleet.model_validate(defaults))
        console.say("fleet doctor: without usable settings this is about the defaults")
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
    """The finding of each check; a check that takes long is named while it runs."""
    found = []
    for check in CHECKS:
        words = f"fleet doctor: looking at {check.name}, which takes its time"
        timer = threading.Timer(_PATIENCE_SECONDS, console.say, (words,))
        timer.daemon = True
        timer.start()
        try:
            found.append(check.on(case))
        finally:
            timer.cancel()
    return found


def verify(arguments: argparse.Namespace) -> int:
    """`fleet verify`; the report's exit code."""
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
    report = Verifier(fleet=fleet, installation=installation, worker=worker, interfaces=interfaces).run()
    console.answer(arguments, report.model_dump(mode="json"), *text(report))
    return int(report.exit_code)
