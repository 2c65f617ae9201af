"""`fleet verify`."""

from __future__ import annotations

import argparse
import socket

from fleet import console
from fleet.errors import UsageError
from fleet.operate.cli import places
from fleet.operate.verify.report import text
from fleet.operate.verify.run import Verifier


def add(nouns: argparse._SubParsersAction[console.Parser]) -> None:
    """Add the verb of this file."""
    made = console.command(
        nouns,
        "verify",
        _verify,
        "prove on this machine that nothing of a worker goes past its tunnel "
        "(exit 0: all holds, 1: something is broken, 75: something could not be proven)",
        "sudo fleet verify --worker w1103",
        root=True,
        answers=True,
    )
    made.add_argument("--worker", metavar="NAME", help="which one; without it the first")
    made.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="NAME",
        help="look for leaks on this interface alone; may be repeated; without it on all but lo and the tunnels",
    )


def _verify(arguments: argparse.Namespace) -> int:
    fleet, installation = places.load(arguments)
    worker = fleet.worker(arguments.worker) if arguments.worker else fleet.members[0]
    interfaces = tuple(arguments.interface)
    if unknown := set(interfaces) - {name for _, name in socket.if_nameindex()}:
        raise UsageError(f"--interface: there is no {', '.join(sorted(unknown))} here", hint="ip -brief link")
    if inner := set(interfaces) & {"lo", *fleet.interfaces}:
        raise UsageError(
            f"--interface: nothing that passes {', '.join(sorted(inner))} has left this host",
            hint="name an uplink: ip route get 192.0.2.1",
        )
    report = Verifier(fleet=fleet, installation=installation, worker=worker, interfaces=interfaces).run()
    console.answer(arguments, report.model_dump(mode="json"), *text(report))
    return int(report.exit_code)
