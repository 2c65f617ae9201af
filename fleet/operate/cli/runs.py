"""`fleet run`."""

from __future__ import annotations

import argparse

from fleet import console
from fleet.errors import RunFailed
from fleet.operate import progress, run
from fleet.operate.cli import places


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the verb of this file."""
    made = console.command(
        nouns,
        "run",
        _run,
        "start everything, let every worker do its loops, report, stop everything",
        "fleet run --workers 8 --loops 2",
        root=True,
        answers=True,
    )
    places.add_workers(made)
    made.add_argument("--loops", type=console.positive, default=1, metavar="L", help="loops of each worker (default 1)")


def _run(arguments: argparse.Namespace) -> None:
    fleet, installation = places.load(arguments)
    with progress.display() as show:
        report = run.run(fleet, installation, arguments.loops, show)
    table = progress.summary(report), progress.COLUMNS, [progress.row(item) for item in report.runs]
    console.answer(arguments, report.model_dump(mode="json"), table=table)
    if not report.ok:
        words = [report.trouble or progress.summary(report), *progress.reasons(report)]
        raise RunFailed(
            "\n".join(words),
            hint=f"screenshots: {installation.paths.state}/workers/*/spool; logs: {installation.paths.logs}",
        )
