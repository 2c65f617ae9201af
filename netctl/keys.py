"""`netctl keys`: the commands on the key pool, and the output of keys in some 60 columns."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pydantic import JsonValue

from fleet.errors import ExitCode, UsageError
from fleet.model import Paths
from fleet.sockets.wire import Address
from fleet.terminal import console

if TYPE_CHECKING:  # SQLAlchemy takes half a second to load, and most commands need none of it
    from netctl.pool.lines import KeyLine
    from netctl.pool.store import Store

_WORDS = "a file's name, a server, a region like KR, or a public key"


def add(verbs: argparse._SubParsersAction[console.Parser]) -> None:
    """The verbs of `netctl keys`."""
    keys = verbs.add_parser("keys", help="the key pool", example="sudo netctl keys list")
    nouns = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    verb = partial(console.command, nouns, answers=True)
    words = "add WireGuard client files; a key already in the pool is changed to what its file says now"
    bring = verb("import", _import, words, "netctl keys import *.conf")
    bring.add_argument("paths", nargs="+", metavar="PATH", help="a .conf file, or - for standard input")
    bring.add_argument("--keep-going", action="store_true", help="import the good files even if some are bad (exit 1)")
    bring.add_argument("--dry-run", action="store_true", help="only show what would change (exit 2 if anything)")
    verb("list", _list, "show the keys, without anything secret", "sudo netctl keys list")
    _named(verb("show", _show, "show everything about keys but their secrets", "sudo netctl keys show KR"))
    forget = verb(
        "forget-exit",
        _forget_exit,
        "forget the learned exit addresses of keys, so that they are learned again; those named in files stay",
        "sudo netctl keys forget-exit --all",
    )
    console.completed(forget.add_argument("keys", nargs="*", metavar="KEY", help=_WORDS), console.KEYS)
    forget.add_argument("--all", action="store_true", help="all keys")
    _named(verb("retire", _retire, "keep keys but stop leasing them", "sudo netctl keys retire kr-seo-wg-001"))
    _named(verb("revive", _revive, "lease retired or aside keys again", "sudo netctl keys revive kr-seo-wg-001"))
    words = "delete keys; one that is leased goes when its lease ends"
    _named(verb("remove", _remove, words, "sudo netctl keys remove kr-seo-wg-001.conf"))


def _named(parser: console.Parser) -> None:
    console.completed(parser.add_argument("keys", nargs="+", metavar="KEY", help=_WORDS), console.KEYS)


def _import(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    dry_run: bool = arguments.dry_run
    paths = Paths.from_environment()
    brought = commands.bring(arguments.paths, paths, keep_going=arguments.keep_going, dry_run=dry_run)
    done = brought.keys
    if not arguments.json:
        for origin in done.there:
            console.say(f"{origin}: is in the pool already, skipped")
        for origin, words in done.changed.items():
            console.say(f"{origin}: {'would be ' if dry_run else ''}changed: {words}")
        for line in (*brought.unused, *brought.refused):
            console.say(line)
    counts: dict[str, JsonValue] = {
        "imported": len(done.new),
        "servers": len(done.servers),
        "changed": {**done.changed},
    }
    counts |= {"duplicates": [*done.there], "refused": [*brought.refused], "unused": [*brought.unused]}
    servers = f", {len(done.servers)} more servers of keys" if done.servers else ""
    changed = f", {len(done.changed)} changed" if done.changed else ""
    refused = f", {len(brought.refused)} files refused" if brought.refused else ""
    words = f"{len(done.new)} keys imported{servers}{changed}, {len(done.there)} skipped{refused}"
    console.answer(arguments, counts, f"not done: {words}" if dry_run else words)
    if dry_run and (done.new or done.servers or done.changed):
        return ExitCode.WOULD_CHANGE
    return ExitCode.FAILED if brought.refused else ExitCode.DONE


def _list(arguments: argparse.Namespace) -> None:
    from netctl.pool import commands

    lines, service = commands.listed(Paths.from_environment())
    shown = [line for key in lines for line in _block(key)]
    said = [*_summary(lines), *([service] if service else [])]
    console.answer(arguments, [commands.as_json(key) for key in lines], *said, *shown)


def _show(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    found, unknown = commands.chosen(arguments.keys, commands.listed(Paths.from_environment())[0])
    shown = [line for key in found for line in (*_block(key), *_details(key))]
    console.answer(arguments, [commands.as_json(key) for key in found], *shown)
    return _known(unknown)


def _summary(lines: Sequence[KeyLine]) -> list[str]:
    """The number of keys in each state, then the keys that are in trouble."""
    keys = {key.public_key for key in lines}
    servers = {key.server for key in lines}
    states = Counter(key.state for key in lines)
    found = [f"{len(keys)} keys at {len(servers)} servers: {', '.join(f'{n} {state}' for state, n in states.items())}"]
    return found + [f"put aside: {key.origin}: {key.trouble}" for key in lines if key.trouble]


def _block(key: KeyLine) -> list[str]:
    """The lines that show KEY, each of some 60 columns."""
    holder = f" to {key.leased_to}" if key.leased_to else ""
    until = f" until {_clock(key.aside_until)}" if key.state == "aside" else ""
    learned = " (learned)" if key.learned_at else ""
    places = [
        f"{key.region or ''} {key.ways[0]}".strip(),
        f"exit {_both(key.exit_address, key.exit_address_v6)}{learned}",
    ]
    good = f"good {_clock(key.last_good)}" if key.last_good else "never good yet"
    found = [f"{key.origin}: {key.state}{holder}{until}", f"  {', '.join(places)}"]
    found.append(f"  {good}, {key.leases_today} leases today")
    return found + ([f"  failed {_clock(key.last_failure)}: {key.why}"] if key.why else [])


def _details(key: KeyLine) -> list[str]:
    found = [f"  tunnel address {_both(key.address, key.address_v6)}", f"  public key {key.public_key}"]
    found += [f"  also reached at {way}" for way in key.ways[1:]]
    return found + ([f"  MTU {key.mtu_bytes}"] if key.mtu_bytes else [])


def _clock(moment: datetime | None) -> str:
    """MOMENT in this host's time zone; with its date unless that is today."""
    if moment is None:
        return "-"
    here, now = moment.astimezone(), datetime.now().astimezone()
    return f"{here:%H:%M:%S}" if here.date() == now.date() else f"{here:%Y-%m-%d %H:%M}"


def _both(*addresses: Address | None) -> str:
    return ", ".join(str(address) for address in addresses if address) or "not known"


def _forget_exit(arguments: argparse.Namespace) -> int:
    from netctl.pool import commands

    if bool(arguments.keys) == arguments.all:
        raise UsageError("name the keys, or say --all", hint="sudo netctl keys forget-exit --all")
    words = None if arguments.all else arguments.keys
    found, unknown = commands.change(words, Paths.from_environment(), lambda store, ids: store.forget_exits(ids))
    learned = [key.public_key for key in found if key.learned_at]
    named = [key.public_key for key in found if key.exit_address and not key.learned_at]
    if not arguments.json and words:
        for key in found:
            if key.exit_address and not key.learned_at:
                console.say(f"{key.origin}: its file names its exit, which stays")
    answer: dict[str, JsonValue] = {"forgotten": [*learned], "named": [*named], "unknown": [*unknown]}
    console.answer(arguments, answer, f"{len(learned)} learned exits forgotten")
    return _known(unknown)


def _remove(arguments: argparse.Namespace) -> int:
    return _changed(arguments, lambda store, ids: store.remove(ids), "removed", "goes when its lease ends")


def _retire(arguments: argparse.Namespace) -> int:
    return _changed(arguments, lambda store, ids: store.retire(ids), "retired", "is not leased again after that")


def _revive(arguments: argparse.Namespace) -> int:
    return _changed(arguments, lambda store, ids: store.retire(ids, back=True), "revived", "")


def _changed(
    arguments: argparse.Namespace, what: Callable[[Store, Sequence[int]], object], done: str, leased: str
) -> int:
    from netctl.pool import commands

    found, unknown = commands.change(arguments.keys, Paths.from_environment(), what)
    held = [key for key in found if key.leased_to and leased]
    if not arguments.json:
        for key in held:
            console.say(f"{key.origin}: is leased to {key.leased_to}, {leased}")
    publics: list[JsonValue] = [key.public_key for key in found]
    answer: dict[str, JsonValue] = {done: publics, "leased": [key.public_key for key in held], "unknown": [*unknown]}
    console.answer(arguments, answer, f"{len(found)} keys {done}")
    return _known(unknown)


def _known(unknown: Sequence[str]) -> int:
    for word in unknown:
        console.say(f"{word}: is not in the pool, as file, server, region or public key")
    return ExitCode.FAILED if unknown else ExitCode.DONE
