"""`fleet try`: one loop now, its answer on the terminal, one picture, nothing stored; helps to find selectors."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import ExitCode, Unanswered, UsageError
from fleet.model import Fleet, TaskSettings
from fleet.operate import configuration
from fleet.operate.borrowed import Borrowed
from fleet.programs import Installation, call
from fleet.terminal import console
from fleet.trial import Trial, TrialOrder

SECONDS = 600.0
CHECK_SECONDS = 60.0
MOST_BYTES = 32 << 20
"""The longest answer: a picture of a whole page has some megabytes."""


def attempt(arguments: argparse.Namespace) -> int:
    """`fleet try`; returns 1 unless the outcome is good or empty."""
    fleet, installation = configuration.asked(arguments)
    worker = fleet.worker(arguments.worker) if arguments.worker else fleet.members[0]
    order = TrialOrder(task=_task(arguments, fleet), exit=_exit(arguments, installation))
    refuse_mistakes(order.task, installation)
    borrowed = Borrowed(fleet=fleet, installation=installation, worker=worker)
    with borrowed.held():
        said = borrowed.ask("try", order, seconds=SECONDS, most_bytes=MOST_BYTES)
    try:
        trial = Trial.model_validate_json(said)
    except ValidationError:
        raise Unanswered(f"{worker.name}'s half sent a malformed answer") from None
    picture = _kept(trial.picture) if trial.picture else None
    result = trial.result.model_dump(mode="json")
    console.answer(arguments, {**result, "picture": str(picture) if picture else None}, *_lines(result, picture))
    return ExitCode.DONE if trial.result.ok else ExitCode.FAILED


def refuse_mistakes(task: TaskSettings, installation: Installation) -> None:
    """Raise the worker's own ConfigurationError for what is wrong with TASK, before anything is started."""
    command, order = installation.module("worker", "task"), TrialOrder(task=task)
    call(command, installation.environment, deadline_seconds=CHECK_SECONDS, given=order.model_dump_json())


def _exit(arguments: argparse.Namespace, installation: Installation) -> str | None:
    """The server named by --exit; raises UsageError, listing the servers, when no key is for it."""
    if arguments.exit is None:
        return None
    command = installation.module("netctl", "keys", "list", "--json")
    listed = json.loads(call(command, installation.environment, deadline_seconds=CHECK_SECONDS))
    servers = sorted({str(line["server"]) for line in listed})
    if arguments.exit not in servers:
        raise UsageError(
            f"no key is for the server {arguments.exit!r}", hint=f"there are {', '.join(servers) or 'no keys at all'}"
        )
    return str(arguments.exit)


def _task(arguments: argparse.Namespace, fleet: Fleet) -> TaskSettings:
    if arguments.url and arguments.task:
        raise UsageError("either an address or --task FILE", hint="fleet try --help")
    if arguments.url:
        return TaskSettings(run="visit", options={"urls": [arguments.url]})
    return configuration.task(Path(arguments.task)) if arguments.task else fleet.task


def _kept(picture: bytes) -> Path:
    """Write PICTURE to a new file that every user may read; returns its path."""
    kind = ".webp" if picture.startswith(b"RIFF") else ".png"
    with tempfile.NamedTemporaryFile(prefix="fleet-try-", suffix=kind, delete=False) as file:
        file.write(picture)
    path = Path(file.name)
    path.chmod(0o644)
    return path


def _lines(result: dict[str, object], picture: Path | None) -> list[str]:
    """The parts of RESULT that a person wants to know first."""
    told = {name: result[name] for name in ("outcome", "reason", "status", "address", "redirects", "notes", "answer")}
    text = json.dumps({name: one for name, one in told.items() if one}, ensure_ascii=False, indent=2)
    return [*text.splitlines(), *([f"picture: {picture}"] if picture else [])]
