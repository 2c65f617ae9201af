"""The program `worker`: prepare (root, at fleet up), run and verify (one worker, started by its launcher)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pydantic import JsonValue

from fleet import console, log, startsecs, syscalls
from fleet.errors import ExitCode, NotAllowed
from fleet.model import BrowserSettings, Paths, load
from worker import signals
from worker.browser.interface import Installed

DEFAULT_HOME = "/opt/fleet"


def _prepare(arguments: argparse.Namespace) -> int:
    from worker import prepare
    from worker.tasks import registry

    console.require_root("worker prepare")
    paths = Paths.from_environment()
    fleet = load(paths.config)
    if ":" not in fleet.task.run:  # root imports nobody's own module; the worker names its mistakes
        registry.resolve(fleet.task)
    installed = prepare.prepare(fleet, paths, Path(os.environ.get("FLEET_HOME", DEFAULT_HOME)))
    if arguments.json:
        console.print_json(_as_json(installed))
    return ExitCode.DONE


def _check(arguments: argparse.Namespace) -> int:
    from worker import prepare

    config = Paths.from_environment().config
    # `fleet doctor` looks before there are settings.
    installed = prepare.fitting(load(config).browser if config.exists() else BrowserSettings())
    if arguments.json:
        console.print_json(_as_json(installed))
    else:
        print(f"{installed.browser} {installed.version}, {installed.driver}")  # noqa: T201 - the answer
    return ExitCode.DONE


def _as_json(installed: Installed) -> dict[str, JsonValue]:
    return {"browser": str(installed.browser), "driver": str(installed.driver), "version": installed.version}


def _run(arguments: argparse.Namespace) -> int:
    # Whoever takes the browser over has this UID: it must not read or change this process's memory, which holds the
    # connection to netctl (ptrace(2), "Ptrace access mode checking"). exec has just undone what the launcher's UID
    # change did.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    from worker import prepare
    from worker.browser import reap
    from worker.loop import Loop, read_order
    from worker.tasks import registry

    paths = Paths.from_environment()
    fleet = load(paths.config)
    worker = fleet.worker(arguments.worker)
    if os.getuid() != worker.uid:
        raise NotAllowed(
            f"{worker.name} runs under UID {worker.uid}, not {os.getuid()}",
            hint=f"supervisorctl start worker:{worker.name}",
        )
    log.bind(worker=worker.name, loop=0, stage="start")
    signals.install()
    reap.adopt_orphans()
    logger = log.get("worker")
    try:
        task = registry.resolve(fleet.task)
        loop = Loop(fleet, paths, worker, prepare.installed_from(os.environ), task)
        logger.info("worker.started", pid=os.getpid(), task=task.name)
        loop.run(read_order(paths))
        logger.info("worker.finished")
        startsecs.wait_out(startsecs.WORKER_SECONDS)
    except signals.Stopped:
        logger.info("worker.stopped")
    finally:
        signals.ignore()
        reap.end_descendants()
    return ExitCode.DONE


def _verify(arguments: argparse.Namespace) -> int:
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    from worker import prepare, verify
    from worker.browser import reap

    paths = Paths.from_environment()
    fleet = load(paths.config)
    worker = fleet.worker(arguments.worker)
    if os.getuid() != worker.uid:
        raise NotAllowed(f"{worker.name} runs under UID {worker.uid}, not {os.getuid()}", hint="fleet verify")
    log.bind(worker=worker.name, loop=0, stage="verify")
    signals.install()
    reap.adopt_orphans()
    try:
        verify.answer(fleet, paths, worker, prepare.installed_from(os.environ))
    except signals.Stopped:
        return ExitCode.TRY_LATER
    finally:
        signals.ignore()
        reap.end_descendants()
    return ExitCode.DONE


def main() -> None:
    """Parse, run, exit."""
    parser = console.parser("worker", __doc__ or "", "worker prepare")
    nouns = parser.add_subparsers(metavar="COMMAND")
    prepare = console.command(
        nouns, "prepare", _prepare, "check browser and driver, write launch specs", "sudo worker prepare --json"
    )
    prepare.add_argument("--json", action="store_true", help="say what was found")
    check = console.command(
        nouns, "check", _check, "say which browser and driver there are, fail unless they fit", "worker check --json"
    )
    check.add_argument("--json", action="store_true", help="the same as JSON")
    run = console.command(
        nouns,
        "run",
        _run,
        "be one worker (its launcher calls this)",
        "worker run --worker w1101",
        start_seconds=startsecs.WORKER_SECONDS,
    )
    run.add_argument("--worker", required=True, metavar="NAME", help="for example w1101")
    verify = console.command(
        nouns,
        "verify",
        _verify,
        "try every way past the tunnel (fleet verify calls this, through the launcher)",
        "worker verify --worker w1101",
    )
    verify.add_argument("--worker", required=True, metavar="NAME", help="for example w1101")
    console.main(parser)


if __name__ == "__main__":
    main()
