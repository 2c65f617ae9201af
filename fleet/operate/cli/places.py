"""What every verb begins with: the settings and the installation they are about."""

from __future__ import annotations

import argparse

from fleet import model
from fleet.model import WORKERS_VARIABLE, Fleet, Paths
from fleet.programs import Installation


def load(arguments: argparse.Namespace) -> tuple[Fleet, Installation]:
    """fleet.toml, with --workers in place of workers.count where it was given."""
    count: int | None = getattr(arguments, "workers", None)
    paths = Paths.from_environment()
    fleet = model.load(paths.config)
    if count is None:
        return fleet, Installation(paths=paths)
    return model.with_workers(fleet, count, "--workers"), Installation(paths=paths, workers=count)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option --workers."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"so many workers instead of workers.count (the variable {WORKERS_VARIABLE} does the same)",
    )
