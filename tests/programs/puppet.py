"""Runs as a worker, not as a test: one browser session, moved by JSON lines (see launching.Puppet)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ["RELEASE"])

from fleet import log
from fleet.errors import FleetError
from fleet.machine.interrupts import Interrupts
from fleet.model import BrowserSettings, TaskSettings
from fleet.result import Losses
from worker import logins, prepare
from worker.browser import reap
from worker.browser.session import Session
from worker.failures import Budget
from worker.kept import Kept
from worker.observation import observe
from worker.record import Record
from worker.tasks.registry import resolve


def answer(value: object) -> None:
    """One line."""
    print(json.dumps(value), flush=True)


def reach(address: str) -> str:
    """What comes of connecting to a Unix socket; `\\0` in front of an abstract one's name."""
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.connect(address)
        except OSError as error:
            return type(error).__name__
    return "reached"


def look_up(name: str) -> list[str]:
    """The addresses of NAME by this process's own getaddrinfo; none is an empty list."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, 443)})
    except socket.gaierror:
        return []


def getent(name: str) -> str:
    """The addresses of NAME by a C program."""
    done = subprocess.run(["/usr/bin/getent", "ahosts", name], capture_output=True, text=True, check=False)
    return done.stdout


pictures: list[bytes] = []
"""Of the task done last: the one, then those of other pages."""


def perform(session: Session, run: str, options: dict[str, Any]) -> object:
    """The result of one task, and how long the site asked to be left alone."""
    record = Record()
    try:
        with record.noting(Budget(1)):
            observe(record, resolve(TaskSettings(run=run, options=options)), session)
    except FleetError:
        record.failed = record.answered is None
    pictures[:] = [record.found.screenshot or b"", *record.found.more_screenshots]
    told = record.answered.retry_after_seconds if record.answered else None
    return {**record.result("run-1", "w1101", 1).model_dump(mode="json"), "told_seconds": told}


def kept(session: Session) -> Kept:
    """What stays of the log-ins of this worker."""
    return Kept(Path(os.environ["HOME"]), session._settings.state, session._logins.state)


OWN: dict[str, Callable[..., object]] = {
    "processes": lambda _: len(reap.descendants()),
    "open_files": lambda _: len(list(Path("/proc/self/fd").iterdir())),
    "threads": lambda _: threading.active_count(),
    "tmp": lambda _: sorted(path.name for path in Path("/tmp").iterdir()),
    "listing": lambda _, folder: sorted(path.name for path in Path(folder).iterdir()),
    "reach": lambda _, address: reach(address),
    "look_up": lambda _, name: look_up(name),
    "getent": lambda _, name: getent(name),
    "_browser_pid": lambda session: session._folder.browser_pid,
    "_script": lambda session, text: session.evaluate(text),
    "targets": lambda session: [one["url"] for one in session._tab._browser("Target.getTargets")["targetInfos"]],
    "perform": perform,
    "picture": lambda _, number=0: pictures[number].hex(),
    "begin": lambda session: kept(session).restore(session),
    "keep": lambda session: kept(session).save(session),
    "wait_for_answers": lambda session, seconds: setattr(session._tab, "answer_seconds", seconds),
    "home": lambda _: os.environ["HOME"],
}
"""What the tests ask beyond the interface."""


def call(session: Session, method: str, arguments: list[Any], keywords: dict[str, Any]) -> object:
    """What one line asks."""
    if method in OWN:
        return OWN[method](session, *arguments)
    try:
        found = getattr(session, method)
        value = found(*arguments, **keywords) if callable(found) else found
    except FleetError as error:
        return {"error": type(error).__name__, "message": str(error)}
    if isinstance(value, Losses):
        return value.model_dump()
    return value.hex() if isinstance(value, bytes) else value


def main() -> None:
    """Start, obey, end."""
    log.configure()  # to standard error: the answers have the other one
    Interrupts().__enter__()
    reap.adopt_orphans()
    settings = BrowserSettings.model_validate_json(sys.argv[1])
    installed = prepare.installed_from(os.environ)
    arguments: dict[str, Any] = {"uid": os.getuid(), "turn": nullcontext, "logins": logins.mine()}
    try:
        session = Session(settings, installed, **arguments)
    except FleetError as error:
        answer({"error": type(error).__name__, "message": str(error), "left": len(reap.descendants())})
        return
    answer("ready")
    for line in sys.stdin:
        order = json.loads(line)
        if order["method"] == "restart":
            session.close()
            session = Session(settings, installed, **arguments)
            answer("ready")
        else:
            answer(call(session, **order))
    session.close()


main()
