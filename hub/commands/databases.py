"""`fleet db`."""

from __future__ import annotations

import argparse

from fleet.terminal import console
from hub.commands import place
from hub.queue import upgrade as tables


def upgrade(arguments: argparse.Namespace) -> None:
    before, after = tables.upgrade(place.database(arguments)[2])
    done = f"version {after}, as before" if before == after else f"version {after}, was {before or 'without tables'}"
    console.answer(arguments, {"before": before, "after": after}, f"the database is of {done}")


def status(arguments: argparse.Namespace) -> None:
    version = tables.check(place.database(arguments)[2])
    console.answer(arguments, {"version": version}, f"the database is of version {version}")
