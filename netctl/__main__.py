"""`netctl`: the network helper's command line. Standard output has the answer only; commands with one take `--json`.

Each command imports what it needs: SQLAlchemy and pyroute2 take longer to load than all the rest, and `netctl status`
needs neither.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING

from fleet import model, numbers, snapshot
from fleet.backends import BACKENDS
from fleet.errors import ConfigurationError, ExitCode, UsageError
from fleet.machine import processes
from fleet.model import Paths, Worker
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import NetctlStatus, Status
from fleet.terminal import console
from netctl import access, keys, privileges

if TYPE_CHECKING:
    from netctl.kernel import monitor

STATUS_SECONDS = 10.0


def main() -> None:
    privileges.keep_memory()
    with contextlib.suppress(ConfigurationError):  # commands that need the last settings read them again and report
        if (last := snapshot.last(Paths.from_environment().snapshot)) is not None:
            numbers.use_placeholders(last.fleet.workers.placeholders)
    top = console.parser(
        "netctl", "Links, rules, routes, nftables and WireGuard keys of the fleet.", "sudo netctl status --json"
    )
    verbs = top.add_subparsers(title="commands", metavar="COMMAND")
    words, seconds = "serve the workers until told to stop", processes.NETCTL_START_SECONDS
    console.command(verbs, "serve", _serve, words, "netctl serve", start_seconds=seconds)
    add = partial(console.command, verbs, answers=True)
    probe = add("probe", _probe, "print which WireGuard backend this host can use", "netctl probe --json")
    probe.add_argument(
        "--backend", choices=["auto", *BACKENDS], default="auto", help="wireguard.backend (default: auto)"
    )
    words = "fail (75) where another fleet is in this network namespace; else show whether this fleet's table is there"
    add("alone", _alone, words, "sudo netctl alone", root=True)
    add("status", _status, "show every slot and the key pool", "sudo netctl status")
    words = "show what serve would change with the settings of the last start (exit 2 if anything), change nothing"
    snapshot.add_option(add("plan", _plan, words, "sudo netctl plan", root=True))
    words = "remove all objects of this fleet from the kernel, return all keys to the pool"
    clean = add("cleanup", _cleanup, words, "sudo netctl cleanup", root=True)
    console.worker(clean, "only those of this worker, like w1103; it stays held back")
    clean.add_argument("--dry-run", action="store_true", help="only show what would be removed (exit 2 if anything)")
    words = "print address and link events as they come, with their workers"
    following = add("monitor", _monitor, words, "netctl monitor --json")
    console.worker(following, "in the network namespace of this worker, like w1103")
    keys.add(verbs)
    console.main(top)


def _serve(_: argparse.Namespace) -> None:
    from netctl import serve

    paths = Paths.from_environment()
    fleet = snapshot.read(paths.snapshot).fleet
    privileges.cut(fleet.walls)
    asyncio.run(serve.serve(fleet, paths))


def _alone(arguments: argparse.Namespace) -> None:
    from netctl.filter.owned_table import holder, refuse_another
    from netctl.plan.things import TABLE

    refuse_another(Paths.from_environment().root)
    held = holder(TABLE) is not None
    console.answer(arguments, {"held": held}, f"inet {TABLE} is there" if held else f"there is no inet {TABLE}")


def _probe(arguments: argparse.Namespace) -> None:
    from netctl.wireguard.probe import probe

    backend = asyncio.run(probe(arguments.backend)).backend
    console.answer(arguments, {"backend": backend.name}, backend.name)


def _status(arguments: argparse.Namespace) -> None:
    with Client(access.mine(Paths.from_environment()), timeout_seconds=STATUS_SECONDS) as client:
        status = client.ask(Status(), NetctlStatus)
    rows = [
        (
            slot.worker,
            slot.interface,
            slot.state,
            slot.exit_server or "-",
            str(slot.exit_address or "-"),
            str(slot.generation),
            str(slot.received_bytes),
            str(slot.sent_bytes),
        )
        for slot in status.slots
    ]
    columns = ("worker", "interface", "state", "server", "exit address", "generation", "received bytes", "sent bytes")
    table = f"netctl {status.pid}, WireGuard: {status.backend}", columns, rows
    lines = [f"keys: {status.pool_trouble}"] if status.pool_trouble else []
    if (pool := status.pool) is not None:
        counts = f"{pool.leased} leased, {pool.cooling} cooling, {pool.free} free"
        lines = [f"keys: {pool.keys} on {pool.servers} servers, {counts}"]
        if pool.service:
            lines.append(pool.service)
        if pool.servers_aside:
            lines.append(f"not answering lately, chosen last: {' '.join(pool.servers_aside)}")
    if status.turns is not None:
        lines.append(str(status.turns))
    console.answer(arguments, status.model_dump(mode="json"), *lines, table=table)


def _plan(arguments: argparse.Namespace) -> int:
    from netctl import cleanup

    fleet = snapshot.read(arguments.settings).fleet
    numbers.use_placeholders(fleet.workers.placeholders)
    lines = [str(operation) for operation in asyncio.run(cleanup.plan(fleet, Paths.from_environment()))]
    console.answer(arguments, [*lines], *(lines or ["nothing to change"]))
    return ExitCode.WOULD_CHANGE if lines else ExitCode.DONE


def _cleanup(arguments: argparse.Namespace) -> int:
    from netctl import cleanup

    operations, trouble = asyncio.run(
        cleanup.cleanup(Paths.from_environment(), worker=_worker(arguments.worker), dry_run=arguments.dry_run)
    )
    lines = [str(operation) for operation in operations]
    console.answer(arguments, [*lines], *(lines or ["nothing to remove"]))
    if trouble is not None:
        raise trouble
    return ExitCode.WOULD_CHANGE if arguments.dry_run and lines else ExitCode.DONE


def _worker(name: str | None) -> Worker | None:
    """The worker called NAME (w1103 or 1103), or None for None; raises UsageError."""
    if name is None:
        return None
    found = Worker.named(f"w{name.removeprefix('w')}")
    if found is None:
        raise UsageError(
            f"{name!r} is no worker", hint=f"w{model.FIRST_UID} to w{model.LAST_UID}, as fleet status shows"
        )
    return found


def _monitor(arguments: argparse.Namespace) -> None:
    from netctl.kernel import monitor

    worker = _worker(arguments.worker)
    if worker is not None:
        console.require_root("netctl monitor --worker")

    async def follow() -> None:
        async for notice in monitor.notices(Paths.from_environment().space(worker) if worker else None):
            console.show(_line(notice, arguments.json))
            sys.stdout.flush()

    asyncio.run(follow())


def _line(notice: monitor.Notice, as_json: bool) -> str:
    if as_json:
        import json

        return json.dumps(notice.as_json())
    what = notice.address or ("up" if notice.up else "down")
    who: Worker | None = notice.worker
    return f"{notice.time:%H:%M:%S.%f} {notice.kind} {notice.interface} {what} {who.name if who else '-'}"


if __name__ == "__main__":
    main()
