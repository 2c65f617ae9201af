"""`netctl`: the network helper's command line. Standard output is the answer; `--json` wherever there is one.

Each command imports what it needs: SQLAlchemy and pyroute2 together take over half a second to load, and a status
needs neither.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pydantic import JsonValue

from fleet import console, model, processes, snapshot
from fleet.backends import BACKENDS
from fleet.client import Client
from fleet.errors import ExitCode, UsageError
from fleet.model import Paths, Worker
from fleet.netctl_api import NetctlStatus, Status
from fleet.wire import Address
from netctl import access, privileges

if TYPE_CHECKING:
    from netctl.kernel import monitor

STATUS_SECONDS = 10.0


def main() -> None:
    privileges.keep_memory()
    top = console.parser(
        "netctl", "Links, rules, routes, nftables and WireGuard keys of the fleet.", "sudo netctl status --json"
    )
    verbs = top.add_subparsers(title="commands", metavar="COMMAND")
    words, seconds = "serve the workers until told to stop", processes.NETCTL_START_SECONDS
    console.command(verbs, "serve", _serve, words, "netctl serve", start_seconds=seconds)
    add = partial(console.command, verbs, answers=True)
    probe = add("probe", _probe, "say which WireGuard can be used here", "netctl probe --json")
    probe.add_argument(
        "--backend", choices=["auto", *BACKENDS], default="auto", help="wireguard.backend (default: auto)"
    )
    words = "fail (75) where another fleet is in this network namespace"
    console.command(verbs, "alone", _alone, words, "sudo netctl alone", root=True)
    add("status", _status, "show every slot and the key pool", "sudo netctl status")
    words = "show what serve would change with the settings of the last start (exit 2 if anything), change nothing"
    snapshot.add_option(add("plan", _plan, words, "sudo netctl plan", root=True))
    words = "remove everything of ours from the kernel, give all keys back"
    clean = add("cleanup", _cleanup, words, "sudo netctl cleanup", root=True)
    console.worker(clean, "of this one alone, like w1103; it stays held back")
    clean.add_argument("--dry-run", action="store_true", help="only show what would be removed (exit 2 if anything)")
    words = "print address and link events as they come, with their workers"
    following = add("monitor", _monitor, words, "netctl monitor --json")
    console.worker(following, "in this one's own network namespace, like w1103")
    _keys(verbs)
    console.main(top)


def _keys(verbs: argparse._SubParsersAction[console.Parser]) -> None:
    keys = verbs.add_parser("keys", help="the key pool", example="sudo netctl keys list")
    nouns = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(console.command, nouns, answers=True)
    words = "add WireGuard client files"
    bring = add("import", _import, words, "netctl keys import *.conf")
    bring.add_argument("paths", nargs="+", metavar="PATH", help="a .conf file, or - for standard input")
    bring.add_argument("--keep-going", action="store_true", help="import the good files beside bad ones (exit 1)")
    add("list", _list, "show the keys, without anything secret", "sudo netctl keys list")
    words = "forget where keys come out, so that it is learned again; what a file names stays"
    forget = add("forget-exit", _forget_exit, words, "sudo netctl keys forget-exit --all")
    forget.add_argument("keys", nargs="*", metavar="PUBLIC_KEY", help="as keys list shows it")
    forget.add_argument("--all", action="store_true", help="of every key")
    remove = add("remove", _remove, "delete keys that are not leased", "sudo netctl keys remove KEY")
    remove.add_argument("keys", nargs="+", metavar="PUBLIC_KEY", help="as keys list shows it")


def _serve(_: argparse.Namespace) -> None:
    from netctl import serve

    paths = Paths.from_environment()
    fleet = snapshot.read(paths.snapshot).fleet
    privileges.cut(fleet.walls)
    asyncio.run(serve.serve(fleet, paths))


def _alone(_: argparse.Namespace) -> None:
    from netctl.filter.owned_table import refuse_another

    refuse_another(Paths.from_environment().root)


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
        if pool.servers_aside:
            lines.append(f"not answering lately, chosen last: {' '.join(pool.servers_aside)}")
    if status.turns is not None:
        lines.append(str(status.turns))
    console.answer(arguments, status.model_dump(mode="json"), *lines, table=table)


def _plan(arguments: argparse.Namespace) -> int:
    from netctl import cleanup

    fleet = snapshot.read(arguments.settings).fleet
    lines = [str(operation) for operation in asyncio.run(cleanup.plan(fleet, Paths.from_environment()))]
    console.answer(arguments, [*lines], *(lines or ["nothing to change"]))
    return ExitCode.WOULD_CHANGE if lines else ExitCode.DONE


def _cleanup(arguments: argparse.Namespace) -> int:
    from netctl import cleanup

    operations, trouble = asyncio.run(
        cleanup.cleanup(Paths.from_environment(), worker=_worker(arguments.worker), dry_run=arguments.dry_run)
    )
    lines = [str(operation) for operation in operations]
    console.answer(arguments, [*lines], *(lines or ["nothing of ours was there"]))
    if trouble is not None:
        raise trouble
    return ExitCode.WOULD_CHANGE if arguments.dry_run and lines else ExitCode.DONE


def _worker(name: str | None) -> Worker | None:
    """The worker of that NAME; raises UsageError."""
    if name is None:
        return None
    uid = name.removeprefix("w")
    if not (uid.isascii() and uid.isdecimal() and model.FIRST_UID <= int(uid) <= model.LAST_UID):
        raise UsageError(
            f"{name!r} is no worker", hint=f"w{model.FIRST_UID} to w{model.LAST_UID}, as fleet status shows"
        )
    return Worker(uid=int(uid))


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


def _import(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    brought = commands.bring(arguments.paths, Paths.from_environment(), keep_going=arguments.keep_going)
    done = brought.keys
    if not arguments.json:
        for origin in done.there:
            console.say(f"{origin}: is in the pool already, skipped")
        for line in (*brought.unused, *brought.refused):
            console.say(line)
    counts: dict[str, JsonValue] = {"imported": len(done.new), "completed": [*done.completed]}
    counts |= {"duplicates": [*done.there], "refused": [*brought.refused], "unused": [*brought.unused]}
    completed = f", {len(done.completed)} completed" if done.completed else ""
    refused = f", {len(brought.refused)} files refused" if brought.refused else ""
    console.answer(arguments, counts, f"{len(done.new)} keys imported{completed}, {len(done.there)} skipped{refused}")
    return ExitCode.FAILED if brought.refused else ExitCode.DONE


def _list(arguments: argparse.Namespace) -> None:
    from netctl.pool import commands

    lines = commands.listed(Paths.from_environment())
    rows = [
        (
            line.server,
            _both(line.exit_address, line.exit_address_v6) + (" (learned)" if line.learned_at else ""),
            _both(line.address, line.address_v6),
            line.public_key,
            line.leased_to or "-",
            line.origin,
        )
        for line in lines
    ]
    columns = ("server", "exit address", "tunnel address", "public key", "leased to", "from")
    aside = [f"put aside: {line.origin} ({line.public_key}): {line.trouble}" for line in lines if line.trouble]
    console.answer(arguments, [commands.as_json(line) for line in lines], *aside, table=("", columns, rows))


def _both(*addresses: Address | None) -> str:
    return ", ".join(str(address) for address in addresses if address) or "-"


def _forget_exit(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    if bool(arguments.keys) == arguments.all:
        raise UsageError("name the keys, or say --all", hint="sudo netctl keys forget-exit --all")
    paths = Paths.from_environment()
    done = commands.forgotten(None if arguments.all else arguments.keys, paths)
    if not arguments.json:
        for public in done.named if arguments.keys else ():
            console.say(f"{public}: its file names its exit, which stays")
        _say_unknown(done.unknown)
    counts: dict[str, JsonValue] = {"forgotten": [*done.learned], "named": [*done.named], "unknown": [*done.unknown]}
    console.answer(arguments, counts, f"{len(done.learned)} learned exits forgotten")
    return ExitCode.FAILED if done.unknown else ExitCode.DONE


def _remove(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    gone, leased, unknown = commands.removed(arguments.keys, Paths.from_environment())
    if not arguments.json:
        for public in leased:
            console.say(f"{public}: is leased, stays")
        _say_unknown(unknown)
    counts: dict[str, JsonValue] = {"removed": [*gone], "leased": [*leased], "unknown": [*unknown]}
    console.answer(arguments, counts, f"{len(gone)} keys removed")
    if leased:
        return ExitCode.TRY_LATER
    return ExitCode.FAILED if unknown else ExitCode.DONE


def _say_unknown(words: Sequence[str]) -> None:
    for word in words:
        console.say(f"{word}: is not in the pool")


if __name__ == "__main__":
    main()
