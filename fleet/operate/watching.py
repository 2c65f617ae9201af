"""`fleet watch`: the hub's first look in a terminal, or a line of JSON for each change of it."""

from __future__ import annotations

import argparse
import http.client
import json
import select
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from fleet import console, snapshot, visible
from fleet.errors import ConfigurationError, Unavailable
from fleet.model import Paths
from fleet.shapes import LEVELS, SHAPES

EACH_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_MOST_BYTES = 64 << 20
_TICKS = 10
_KINDS = ("workers", "watches", "sites")
_COLUMNS = ("", "", "last", "newest right")
Fleet = Mapping[str, Any]


def watch(arguments: argparse.Namespace) -> None:
    """Until Ctrl-C; a table once where standard error is no terminal."""
    port = arguments.port or snapshot.read(Paths.from_environment().snapshot).fleet.hub.web.port
    if not port:
        raise ConfigurationError("hub.web.port is 0: there is no page", hint="set it in fleet.toml, or say --port")
    if arguments.json:
        _tell(port)
        return
    with console.live_table() as show:
        if show is None:
            fleet = _asked(port)
            console.print_table(headline(fleet), _COLUMNS, list(rows(fleet)))
            return
        fleet = _asked(port)
        while True:
            show(console.made_table(headline(fleet), _COLUMNS, list(rows(fleet))))
            _rest()
            try:
                fleet = _asked(port)
            except Unavailable as error:
                fleet = {**fleet, "trouble": f"old, {error.message}", "now": time.time()}


def _tell(port: int) -> None:
    told: dict[str, Any] = {}
    while True:
        try:
            found = dict(changes(_asked(port)))
        except Unavailable:
            found = {**told, "trouble": {"trouble": "hub"}}
        for name, what in found.items():
            if told.get(name) != what:
                console.show(visible.json(json.dumps(what, ensure_ascii=False)))
        sys.stdout.flush()
        told = found
        _rest()


def changes(fleet: Fleet) -> Iterator[tuple[str, dict[str, Any]]]:
    """By name, what a program hears of when it changes: the trouble, and each card."""
    yield "trouble", {"trouble": fleet["trouble"]}
    for kind in _KINDS:
        for card in fleet[kind]:
            last = card["ticks"][-1] if card["ticks"] else None
            words = {name: card[name] for name in ("name", "state", "level", "last_at")}
            run = None if last is None else f"{last['job']}.{last['fence']}"
            yield card["id"], {"kind": kind, **words, "run": run, "outcome": last["outcome"] if last else None}


def headline(fleet: Fleet) -> str:
    """What is wrong, in a line."""
    wrong = sum(card["level"] == "wrong" for kind in _KINDS for card in fleet[kind])
    words = [fleet["trouble"]] if fleet["trouble"] else []
    words += [f"{wrong} in trouble"] if wrong else []
    return f"{'; '.join(words) or 'nothing is wrong'}; last result {_ago(fleet['last_at'], fleet['now'])}"


def rows(fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """A row for each card, in the page's order."""
    for kind in _KINDS:
        for card in fleet[kind]:
            ticks = "".join(SHAPES.get(tick["outcome"], "?") for tick in card["ticks"][-_TICKS:])
            yield f"{LEVELS[card['level']]} {card['state']}", card["name"], _ago(card["last_at"], fleet["now"]), ticks


def _ago(moment: float | None, now: float) -> str:
    if moment is None:
        return "-"
    seconds = max(0.0, now - moment)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _asked(port: int) -> Fleet:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/api/fleet")
        answer = connection.getresponse()
        found = json.loads(answer.read(_MOST_BYTES))
        if answer.status == 200 and {*_KINDS} <= found.keys():
            return dict(found)
        raise Unavailable(f"the hub says {answer.status}", hint="sudo fleet log")
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        words = f"the hub's page on port {port} does not answer: {error}"
        raise Unavailable(words, hint="sudo fleet status") from error
    finally:
        connection.close()


def _rest() -> None:
    select.select([], [], [], EACH_SECONDS)
