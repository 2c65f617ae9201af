"""The operator's program: `fleet VERB`."""

from __future__ import annotations

import sys
from typing import NoReturn

from fleet import console
from fleet.interrupts import Stopped
from fleet.operate.cli import accounts, doctor, lifecycle, runs, show, verify


def main() -> NoReturn:
    """Parse, run, exit."""
    made = console.parser(
        "fleet", "A fleet of browsers, each behind its own tunnel.", "fleet run --workers 8 --loops 2"
    )
    nouns = made.add_subparsers(metavar="VERB", parser_class=console.Parser)
    for part in (lifecycle, runs, show, doctor, accounts, verify):
        part.add(nouns)
    try:
        console.main(made)
    except Stopped as stopped:
        console.say(f"fleet: stopped by {stopped}; nothing is left running")
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main()
