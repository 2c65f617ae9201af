"""`fleet doctor`."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from fleet import console, model
from fleet.errors import ConfigurationError, ExitCode
from fleet.model import DnsSettings, EgressSettings, Fleet, Paths
from fleet.operate.cli import places
from fleet.operate.doctor.check import Finding, Verdict
from fleet.operate.doctor.examine import examine, fix
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
    if arguments.json:
        console.print_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    bad = any(finding.verdict is Verdict.ERROR for finding in findings)
    return ExitCode.FAILED if bad else ExitCode.DONE


def _case(arguments: argparse.Namespace) -> Case:
    """The settings where they can be read; else the defaults, and what is wrong with them."""
    wrong = ""
    try:
        fleet, installation = places.load(arguments)
    except ConfigurationError as error:
        wrong, installation = error.message, Installation(paths=Paths.from_environment())
        fleet = Fleet(dns=_defaults_dns(), egress=EgressSettings(urls=("https://www.example.org/ip",)))
        if arguments.workers is not None:
            fleet = model.with_workers(fleet, arguments.workers, "--workers")
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
    with _patience() as watch:
        return list(examine(case, watch))


class _Patience:
    """Says which check takes longer than anybody expects."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def __call__(self, name: str) -> None:
        self.end()
        words = f"fleet doctor: looking at {name}, which takes its time"
        self._timer = threading.Timer(_PATIENCE_SECONDS, console.say, (words,))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def _patience() -> Iterator[_Patience]:
    made = _Patience()
    try:
        yield made
    finally:
        made.end()


def _show(findings: list[Finding]) -> None:
    """A line a check; below it, for whatever is not ok, why it matters and what mends it."""
    console.print_table(
        "", ("check", "", "what was seen"), [(one.name, one.verdict.value, one.seen) for one in findings]
    )
    for one in findings:
        if one.verdict is not Verdict.OK:
            _print(f"{one.verdict.value}: {one.name}: {one.why}", f"  what to do: {one.command}")
    counts = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
    _print(f"{counts[Verdict.ERROR]} errors, {counts[Verdict.WARNING]} warnings, {counts[Verdict.OK]} ok")


def _print(*lines: str) -> None:
    print(*lines, sep="\n")  # noqa: T201 - the answer
