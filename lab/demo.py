"""`demo`: the lab, the fleet inside it, and a report of what happened, with one command.

It cleans up in the reverse order of making, also after a signal at any moment. The next demo removes what a killed one
left behind: everything that it makes belongs to a lab.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import time
from pathlib import Path

from pydantic import JsonValue, ValidationError

from fleet import log
from fleet.errors import ConfigurationError, ExitCode, FleetError, RunFailed, UsageError
from fleet.machine.interrupts import Interrupts, Stopped
from fleet.model import Worker, WorkersSettings
from fleet.result import Result
from fleet.settings.mistakes import mistakes
from fleet.spool import Reader
from fleet.terminal import console
from lab import leaks, places, report, run
from lab.events import AddressListener
from lab.habit import habit
from lab.net import Lab

STOP_SECONDS = 90
"""How long `fleet run` may take to end everything after a signal."""
_SERVERS = 3
_READ_SECONDS, _MOST_NAMED = 60.0, 20
"""Limits for reading one spool: seconds, and unreadable files that are logged."""
_log = log.get("demo")


def _demo(arguments: argparse.Namespace) -> int:
    console.require_root("bin/demo")
    if arguments.workers < 1 or arguments.loops < 1:
        raise UsageError("--workers and --loops are at least 1", hint="bin/demo --help")
    # Twice as many keys as workers, so that every loop finds a fresh one while others rest.
    keys = max(10, -(-2 * arguments.workers // _SERVERS))
    lab = Lab(arguments.lab, servers=_SERVERS, keys=keys)
    try:  # impossible numbers are reported before anything is made or removed
        members = WorkersSettings(count=arguments.workers, first_uid=arguments.first_uid).members
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, "bin/demo: workers.")) from None
    with Interrupts() as interrupts:
        try:
            with places.lock(lab.name, "demo"):
                made, results = _run_in(lab, members, arguments, interrupts)
        except Stopped as stopped:
            _say(f"ended by {stopped}; nothing is left running")
            return stopped.exit_code
    for name, value in report.summary(made, results):
        console.show(f"{name + ':':<50} {value}")
    for leak in made.leaks[:10]:
        _say(f"leak: {leak}")
    console.show(f"{report.verdict(made)}; report: {arguments.report / 'report.html'}")
    if not made.ok:
        raise RunFailed(report.verdict(made), hint=f"look at {arguments.report / 'report.html'}")
    return ExitCode.DONE


def _run_in(
    lab: Lab, members: tuple[Worker, ...], arguments: argparse.Namespace, interrupts: Interrupts
) -> tuple[report.Report, tuple[Result, ...]]:
    started = time.monotonic()
    keep = False
    try:
        if lab.places.root.exists():
            _say(f"lab {lab.name}: removing what an earlier run left or kept")
            lab.down()
        _say(f"lab {lab.name}: coming up")
        lab.up()
        changes: dict[str, dict[str, JsonValue]] = {
            "": {"isolation": arguments.isolation} if arguments.isolation else {}
        }
        if arguments.control:  # in its own namespace a browser would see no address event of the host
            changes = {"": {"isolation": "uid"}, "workers": {"deny_netlink": False}}
        run.prepare(lab, arguments.workers, first_uid=arguments.first_uid, changes=changes)
        host = lab.topology.namespace("host")
        control = habit(host, members, run.paths(lab)) if arguments.control else contextlib.nullcontext()
        with AddressListener(host) as listener:
            with control:
                _fleet_run(lab, arguments, interrupts)
            spools = {worker.name: run.paths(lab).spool(worker) for worker in members}
            read = [Reader(folder, worker=name).look(_READ_SECONDS) for name, folder in spools.items()]
            results = tuple(result for found, _ in read for result in found)
            for one in (one for _, unreadable in read for one in unreadable[:_MOST_NAMED]):
                _log.warning("spool.unreadable", reason=one.why)
            window = report.browser_window(results)
            events = listener.between(*window) if window else []
        exits = {str(result.exit_address) for result in results}
        leaked = leaks.find(lab.places, window, exits) if window else ()
        made = report.make(
            results,
            workers=arguments.workers,
            loops=arguments.loops,
            address_events=len(events),
            wall_seconds=time.monotonic() - started,
            leaks=leaked,
            unreadable=sum(len(unreadable) for _, unreadable in read),
        )
        report.write(arguments.report, made, results, spools)
        keep = arguments.keep
    finally:
        with interrupts.shield():
            if keep:
                _say(f"kept: bin/lab shell host --lab {lab.name}; remove it with: bin/lab down --lab {lab.name}")
            else:
                lab.down()
    return made, results


def _fleet_run(lab: Lab, arguments: argparse.Namespace, interrupts: Interrupts) -> None:
    """`fleet run` inside the host, with its live table on this terminal; raises FleetError if it could not run."""
    numbers = ("--workers", str(arguments.workers), "--loops", str(arguments.loops))
    # pdeathsig: if this program is killed, the child ends everything by itself. A session of its own: Ctrl-C reaches
    # only this program, which then signals the fleet once.
    command = ["setpriv", "--pdeathsig", "TERM", *run.program("fleet", "run", *numbers)]
    child = lab.popen("host", command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        code = child.wait()
    finally:
        if child.poll() is None:
            with interrupts.shield():
                child.terminate()
                try:
                    child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    _log.warning("fleet.killed", after_seconds=STOP_SECONDS)  # the lab's end gets the rest
                    child.kill()
                    child.wait()
    if code not in (ExitCode.DONE, ExitCode.FAILED):
        raise FleetError(f"fleet run ended with code {code}; its own message is above")


def _say(text: str) -> None:
    console.say(f"demo: {text}")


def build() -> console.Parser:
    """The command line."""
    made = console.parser(
        "demo", "Eight browsers behind eight tunnels in a small internet of its own.", "bin/demo --workers 8 --loops 2"
    )
    made.set_defaults(run=_demo)
    made.add_argument("--workers", type=int, default=8, metavar="N", help="browsers at once (default 8)")
    made.add_argument("--loops", type=int, default=2, metavar="L", help="loops of each (default 2)")
    made.add_argument("--isolation", choices=["uid", "netns"], help="of the tunnels (default: the product's)")
    made.add_argument("--report", type=Path, default=Path("report"), metavar="DIR", help="where (default: report)")
    made.add_argument("--keep", action="store_true", help="keep the lab, to look around in it")
    made.add_argument("--lab", default="demo", metavar="NAME", help="name of its lab (default: demo)")
    made.add_argument("--first-uid", type=int, default=1101, metavar="UID", help="the workers' UIDs (default: 1101)")
    # For the tests: the same with today's habit beside it, and with Chrome able to see address events.
    made.add_argument("--control", choices=["habit"], help=argparse.SUPPRESS)
    return made


def main() -> None:
    """Entry point."""
    console.main(build())


if __name__ == "__main__":
    main()
