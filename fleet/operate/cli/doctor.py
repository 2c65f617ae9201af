"""`fleet doctor`."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from dataclasses import asdict

from fleet import console
from fleet.errors import ConfigurationError, ExitCode
from fleet.model import DnsSettings, EgressSettings, Fleet, Paths
from fleet.operate import configuration
from fleet.operate.cli import places
from fleet.operate.doctor.check import Finding, Verdict
from fleet.operate.doctor.examine import CHECKS, fix
from fleet.operate.doctor.machine import Case, Machine
from fleet.programs import Installation
from fleet.supervise import Supervisor

_PATIENCE_SECONDS = 2.0


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the verb of this file."""
    made = console.command(
        nouns,
        "doctor",
        _doctor,
        "is this machine fit for a fleet; what mends it where it is not (exit 1 when an error remains)",
        "sudo fleet doctor --fix",
        root=True,
        answers=True,
    )
    made.add_argument(
        "--fix", action="store_true", help="do what is safe: drop-ins, left-overs; no packages, no restart of anything"
    )
    places.add_workers(made)


def _doctor(arguments: argparse.Namespace) -> int:
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
        fleet, installation = places.load(arguments)
    except ConfigurationError as error:
        wrong, installation = error.message, Installation(paths=Paths.from_environment())
        fleet = Fleet(dns=_defaults_dns(), egress=EgressSettings(urls=("https://www.example.org/ip",)))
        if arguments.workers is not None:
            fleet = configuration.with_workers(fleet, arguments.workers, "--workers")
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


def _defaults_dns() -> DnsSettings:
    return DnsSettings.model_validate({"resolvers": ["192.0.2.53"]})


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
