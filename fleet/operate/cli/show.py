"""`fleet render`, `fleet status`."""

from __future__ import annotations

import argparse
import sys

from fleet import console, snapshot, status
from fleet.backends import BACKENDS
from fleet.errors import ExitCode
from fleet.model import Paths
from fleet.operate import prepare
from fleet.operate.cli import places
from fleet.operate.render import supervisord_conf
from fleet.programs import Installation


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the verbs of this file."""
    render = console.command(
        nouns, "render", _render, "print the supervisord.conf that `fleet up` would use", "fleet render | less"
    )
    render.add_argument(
        "--backend", choices=tuple(BACKENDS), help="WireGuard's home; without it netctl looks (needs root)"
    )
    places.add_workers(render)
    words = "the workers, their tunnels and their last loops"
    console.command(nouns, "status", _status, words, "fleet status", root=True, answers=True)


def _render(arguments: argparse.Namespace) -> None:
    fleet, installation = places.load(arguments)
    if arguments.backend is None and fleet.wireguard.backend == "auto":
        console.require_root("fleet render")
    backend = BACKENDS[arguments.backend] if arguments.backend else prepare.probe(fleet, installation)
    sys.stdout.write(supervisord_conf(fleet, installation, backend))


def _status(arguments: argparse.Namespace) -> int:
    paths = Paths.from_environment()
    started = snapshot.last(paths.snapshot)
    seen = status.take(started.fleet.members if started else (), Installation(paths=paths))
    table = status.summary(seen), status.COLUMNS, list(status.rows(seen))
    console.answer(arguments, seen.model_dump(mode="json"), table=table)
    return ExitCode.DONE if seen.supervisor_pid is not None else ExitCode.FAILED
