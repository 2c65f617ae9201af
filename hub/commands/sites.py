"""`fleet site`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from fleet.errors import UsageError
from fleet.terminal import console
from hub.commands.place import moment, opened
from hub.queue.values import Pace, check_name, with_times

_COLUMNS = ("site", "every s", "most", "run", "next job", "robots", "")


def show_list(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        found = place.store.sites()
    rows = [
        (
            one.name,
            f"{one.pace_seconds:g}",
            str(one.most),
            str(one.running),
            moment(one.wake_at),
            f"{one.crawl_delay:g} s" if one.crawl_delay else "-",
            "paused" if one.paused else "slowed" if one.slowed > 1 else "",
        )
        for one in found
    ]
    table = ("" if rows else "no site", _COLUMNS, rows)
    console.answer(arguments, [with_times(asdict(one)) for one in found], table=table)


def pause(arguments: argparse.Namespace) -> None:
    _change(arguments, paused=True)


def resume(arguments: argparse.Namespace) -> None:
    _change(arguments, paused=False)


def _change(arguments: argparse.Namespace, *, paused: bool) -> None:
    with opened(arguments) as place:
        known = place.store.pause(arguments.site.lower(), paused=paused)
    _answer(arguments, known, "paused: no job of it begins" if paused else "resumed")


def pace(arguments: argparse.Namespace) -> None:
    try:
        check_name("SITE", arguments.site)
        wanted = Pace(interval_seconds=arguments.interval_seconds, most=arguments.most)
    except ValueError as error:
        raise UsageError(f"fleet site pace: {error}") from None
    with opened(arguments) as place:
        place.store.pace(arguments.site.lower(), wanted)
    _answer(arguments, True, f"at most {wanted.most} at a time, one every {wanted.interval_seconds:g} s")


def _answer(arguments: argparse.Namespace, known: bool, words: str) -> None:
    if not known:
        raise UsageError(f"there is no site {arguments.site!r}", hint="fleet site list")
    console.answer(arguments, {"site": arguments.site, "known": True}, f"{arguments.site}: {words}")
