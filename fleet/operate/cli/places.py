"""What every verb begins with: the settings and the installation they are about."""

from __future__ import annotations

import argparse

from fleet.model import Fleet, Paths
from fleet.operate import configuration
from fleet.programs import Installation


def load(arguments: argparse.Namespace) -> tuple[Fleet, Installation]:
    """fleet.toml, with --workers in place of workers.count where it was given."""
    count: int | None = getattr(arguments, "workers", None)
    paths = Paths.from_environment()
    fleet = configuration.load(paths.config)
    if count is not None:
        fleet = configuration.with_workers(fleet, count, "--workers")
    return fleet, Installation(paths=paths)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The option --workers."""
    parser.add_argument("--workers", type=int, metavar="N", help="so many workers instead of workers.count")
