"""`fleet watch`: the hub's page in a terminal, or one line of JSON for each change."""

from __future__ import annotations

import argparse
import http.client
import json
import select
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from fleet import look, snapshot, visible
from fleet.errors import ConfigurationError, NotAllowed, Unavailable
from fleet.model import Paths
from fleet.terminal import console
from fleet.terminal.shapes import LEVELS, SHAPES

EACH_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_MOST_BYTES = 64 << 20
_TICKS = 10
_WATCH_SECONDS = 30 * 86_400.0
"""How long the link of one `fleet watch` is valid, where readers need a link."""
_COLUMNS = ("", "", "last", "newest right")


class Tick(BaseModel, frozen=True):
    """The end of a run."""

    job: int
    fence: int
    outcome: str


class Card(BaseModel, frozen=True):
    """A worker, a watch or a site."""

    id: str
    name: str
    state: str
    level: Literal["wrong", "watch", "fine"]
    last_at: float | None
    ticks: tuple[Tick, ...]


class Page(NamedTuple):
    """Where the page is."""

    port: int
    link: str = ""
    """How its addresses begin (fleet.look)."""


class Fleet(BaseModel, frozen=True, allow_inf_nan=False):
    """The part of the page's data (hub.web.cards) that is shown here; validated, as any user may listen on the port."""

    now: float
    last_at: float | None
    trouble: str
    workers: tuple[Card, ...]
    watches: tuple[Card, ...]
    sites: tuple[Card, ...]

    @property
    def cards(self) -> Iterator[tuple[str, Card]]:
        """Each with its kind, in the page's order."""
        for kind, cards in (("workers", self.workers), ("watches", self.watches), ("sites", self.sites)):
            yield from ((kind, card) for card in cards)


def watch(arguments: argparse.Namespace) -> None:
    """Show the table until Ctrl-C; print it once when standard error is no terminal."""
    page = _page(arguments.port)
    if not page.port:
        raise ConfigurationError("hub.web.port is 0: there is no page", hint="set it in fleet.toml, or say --port")
    if arguments.json:
        _tell(page)
        return
    with console.live_table() as show:
        if show is None:
            fleet = _asked(page)
            console.print_table(headline(fleet), _COLUMNS, list(rows(fleet)))
            return
        fleet = _asked(page)
        while True:
            show(console.made_table(headline(fleet), _COLUMNS, list(rows(fleet))))
            _rest()
            try:
                fleet = _asked(page)
            except Unavailable as error:
                fleet = fleet.model_copy(update={"trouble": f"old, {error.message}", "now": time.time()})


def _tell(page: Page) -> None:
    told: dict[str, Any] = {}
    while True:
        try:
            found = dict(changes(_asked(page)))
        except Unavailable:
            found = {**told, "trouble": {"trouble": "hub"}}
        for name, what in found.items():
            if told.get(name) != what:
                console.show(visible.json(json.dumps(what, ensure_ascii=False)))
        sys.stdout.flush()
        told = found
        _rest()


def changes(fleet: Fleet) -> Iterator[tuple[str, dict[str, Any]]]:
    """The trouble and each card, by name, as JSON objects; one is printed when it changes."""
    yield "trouble", {"trouble": fleet.trouble}
    for kind, card in fleet.cards:
        last = card.ticks[-1] if card.ticks else None
        words = card.model_dump(include={"name", "state", "level", "last_at"})
        run = None if last is None else f"{last.job}.{last.fence}"
        yield card.id, {"kind": kind, **words, "run": run, "outcome": last.outcome if last else None}


def headline(fleet: Fleet) -> str:
    """What is wrong, as one line."""
    wrong = sum(card.level == "wrong" for _, card in fleet.cards)
    words = [fleet.trouble] if fleet.trouble else []
    words += [f"{wrong} in trouble"] if wrong else []
    return f"{'; '.join(words) or 'nothing is wrong'}; last result {_ago(fleet.last_at, fleet.now)}"


def rows(fleet: Fleet) -> Iterator[tuple[str, ...]]:
    """A row for each card, in the page's order."""
    for _, card in fleet.cards:
        ticks = "".join(SHAPES.get(tick.outcome, "?") for tick in card.ticks[-_TICKS:])
        yield f"{LEVELS[card.level]} {card.state}", card.name, _ago(card.last_at, fleet.now), ticks


def _ago(moment: float | None, now: float) -> str:
    if moment is None:
        return "-"
    seconds = max(0.0, now - moment)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _page(port: int | None) -> Page:
    """The page at PORT; without PORT that of the running fleet, by a link where readers need one."""
    if port:
        return Page(port)
    web = snapshot.read(Paths.from_environment().snapshot).fleet.hub.web
    if web.readers != "link":
        return Page(web.port)
    try:
        # A link and not the token: another program may listen on that port.
        return Page(web.port, look.link(look.token_in(web.token_file), int(time.time() + _WATCH_SECONDS)))
    except (OSError, ValueError):
        raise NotAllowed(f"this user may not read {web.token_file}", hint="sudo fleet watch") from None


def _asked(page: Page) -> Fleet:
    port = page.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", f"{page.link}/api/fleet")
        answer = connection.getresponse()
        if answer.status == 200:
            return Fleet.model_validate_json(answer.read(_MOST_BYTES))
        raise Unavailable(f"the hub says {answer.status}", hint="sudo fleet log")
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, one["loc"])) or one["type"] for one in error.errors()[:3])
        raise Unavailable(f"what answers on port {port} is no page of a hub: {wrong}", hint="sudo fleet log") from None
    except (OSError, http.client.HTTPException) as error:
        words = f"the hub's page on port {port} does not answer: {error}"
        raise Unavailable(words, hint="sudo fleet status") from error
    finally:
        connection.close()


def _rest() -> None:
    select.select([], [], [], EACH_SECONDS)
