"""The program `worker`: prepare (as root, at `fleet up`); run, verify and try (one worker, started by its launcher)."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from fleet import log, snapshot
from fleet.errors import ExitCode, NotAllowed
from fleet.machine import processes, syscalls
from fleet.machine.interrupts import Interrupts, Stopped
from fleet.model import BrowserSettings, Fleet, Paths, Worker
from fleet.paths import home
from fleet.terminal import console
from worker.browser.interface import Installed


def _prepare(arguments: argparse.Namespace) -> None:
    from worker import prepare
    from worker.tasks import registry

    paths = Paths.from_environment()
    fleet = snapshot.read(paths.snapshot).fleet
    # With hub.jobs = "only" [task] is used only by `fleet run`, whose workers check it themselves.
    if fleet.loops_task:
        registry.check(fleet.task)
    installed = prepare.prepare(fleet, paths, home())
    _answer(arguments, installed)


def _check(arguments: argparse.Namespace) -> None:
    from worker import prepare

    started = snapshot.last(arguments.settings)
    installed = prepare.fitting(started.fleet.browser if started else BrowserSettings())
    _answer(arguments, installed, f"{installed.browser} {installed.version}, {installed.driver}")


def _answer(arguments: argparse.Namespace, installed: Installed, *lines: str) -> None:
    found = {"browser": str(installed.browser), "driver": str(installed.driver), "version": installed.version}
    console.answer(arguments, {**found}, *lines)


@contextmanager
def _being(name: str, stage: str, *, hint: str) -> Iterator[tuple[Fleet, Paths, Worker]]:
    """Run as the worker NAME: in the block a signal raises Stopped; at its end all child processes are killed.

    Raises NotAllowed, with HINT, when this process does not have the worker's UID.
    """
    # An attacker who takes the browser over has this UID and must not read or change this process's memory, which holds
    # the connection to netctl (ptrace(2), "Ptrace access mode checking"). exec has just reset what the launcher's UID
    # change had set.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    from worker.browser import reap

    paths = Paths.from_environment()
    fleet = snapshot.read(paths.snapshot).fleet
    worker = fleet.worker(name)
    if os.getuid() != worker.uid:
        raise NotAllowed(f"{worker.name} runs under UID {worker.uid}, not {os.getuid()}", hint=hint)
    sys.path.append(str(paths.tasks))  # last, so that no file there replaces a module of ours
    log.bind(worker=worker.name, loop=0, stage=stage)
    with Interrupts() as interrupts:
        reap.adopt_orphans()
        try:
            yield fleet, paths, worker
        finally:
            interrupts.ignore()
            reap.end_descendants()


def _run(arguments: argparse.Namespace) -> None:
    name, logger = arguments.worker, log.get("worker")
    with _being(name, "start", hint=f"supervisorctl start worker:{name}") as (fleet, paths, worker):
        from worker import prepare
        from worker.loop import Loop, read_order
        from worker.tasks import registry

        try:
            order = read_order(paths)
            task = registry.resolve(fleet.task) if order or fleet.loops_task else None
            loop = Loop(fleet, paths, worker, prepare.installed_from(os.environ), task)
            logger.info("worker.started", pid=os.getpid(), task=task.name if task else "only jobs")
            loop.run(order)
            logger.info("worker.finished")
            processes.outlive(processes.WORKER_START_SECONDS)
        except Stopped:
            logger.info("worker.stopped")


def _verify(arguments: argparse.Namespace) -> int | None:
    with _being(arguments.worker, "verify", hint="fleet verify") as (fleet, paths, worker):
        from worker import prepare, verify

        try:
            installed = prepare.current(prepare.installed_from(os.environ), fleet.browser)
            verify.answer(fleet, paths, worker, installed)
        except Stopped:
            return ExitCode.TRY_LATER
    return None


def _task(_: argparse.Namespace) -> None:
    from fleet.trial import TrialOrder
    from worker.tasks import registry

    registry.check(TrialOrder.model_validate_json(sys.stdin.readline()).task)


def _declare(arguments: argparse.Namespace) -> None:
    from worker.tasks import declared

    answer = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # an imported module may print
    found = declared.built_in()
    with suppress(OSError):
        declared.give_up_root()
        found = {**declared.others(Paths.from_environment().tasks, arguments.task), **found}
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(found))


def _try(arguments: argparse.Namespace) -> int | None:
    with _being(arguments.worker, "try", hint="fleet try") as (fleet, paths, worker):
        from fleet.trial import RUN, Trial, TrialOrder
        from worker import prepare
        from worker.loop import Loop
        from worker.tasks import registry

        order = TrialOrder.model_validate_json(sys.stdin.readline())
        once = fleet.model_copy(update={"loop": fleet.loop.model_copy(update={"attempts": 1})})
        try:
            task, installed = registry.resolve(order.task), prepare.installed_from(os.environ)
            loop = Loop(once, paths, worker, installed, task, server=order.exit)
            record = loop.once()
        except Stopped:
            return ExitCode.TRY_LATER
        picture = base64.b64encode(record.found.screenshot) if record.found.screenshot else None
        console.print_json(Trial(result=record.result(RUN, worker.name, 1), picture=picture).model_dump(mode="json"))
    return None


def main() -> None:
    """Parse, run, exit."""
    parser = console.parser("worker", __doc__ or "", "worker prepare")
    command = partial(console.command, parser.add_subparsers(metavar="COMMAND"))
    words = "check browser and driver, write launch specs"
    command("prepare", _prepare, words, "sudo worker prepare --json", root=True, answers=True)
    words = "show the browser and the driver; fail unless they fit"
    snapshot.add_option(command("check", _check, words, "worker check --json", answers=True))
    words, seconds = "run one worker (its launcher calls this)", processes.WORKER_START_SECONDS
    run = command("run", _run, words, "worker run --worker w1101", start_seconds=seconds)
    words = "try every way past the tunnel (fleet verify calls this, through the launcher)"
    verify = command("verify", _verify, words, "worker verify --worker w1101")
    command("task", _task, "check the task on standard input (fleet try calls this)", "worker task")
    words = "print the options of each task as JSON (fleet calls this)"
    declare = command("declare", _declare, words, "worker declare --task prices:prices")
    declare.add_argument("--task", default="", metavar="TASK", help="the task of [task], which is included")
    words = "do one loop with the task on standard input (fleet try calls this, through the launcher)"
    trial = command("try", _try, words, "worker try --worker w1101")
    for made in (run, verify, trial):
        console.worker(made, "for example w1101", required=True)
    console.main(parser)


if __name__ == "__main__":
    main()
