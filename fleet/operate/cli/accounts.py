"""`fleet accounts make|remove`."""

from __future__ import annotations

import argparse

from fleet import console
from fleet.model import Paths
from fleet.operate import accounts, lifecycle
from fleet.operate.cli import places
from fleet.programs import Installation


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the noun of this file."""
    noun = nouns.add_parser("accounts", help="the users under which everything runs", example="fleet accounts make")
    verbs = noun.add_subparsers(metavar="VERB", required=True)
    make = console.command(verbs, "make", _make, "make what is missing", "fleet accounts make", root=True)
    places.add_workers(make)
    make.add_argument("--netctl", action="store_true", help="netctl's alone, which needs no settings")
    words = "delete every account of ours (fleet down first)"
    console.command(verbs, "remove", _remove, words, "fleet accounts remove", root=True)


def _make(arguments: argparse.Namespace) -> None:
    made = accounts.ensure_netctl() if arguments.netctl else accounts.ensure(places.load(arguments)[0])
    console.say(f"made: {' '.join(made)}" if made else "every account is there")


def _remove(_: argparse.Namespace) -> None:
    lifecycle.refuse_if_running(Installation(paths=Paths.from_environment()))
    removed = accounts.remove()
    console.say(f"removed: {' '.join(removed)}" if removed else "there was no account of ours")
