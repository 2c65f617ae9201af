"""Server-sent events: first the whole state, then the changed cards, and their order if that has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fleet.errors import DatabaseFailed
from fleet.sockets.deadline import set_within
from hub.web.pages import shown
from hub.web.pages import told as lines
from hub.web.view import View
from hub.web.words import words

EACH_SECONDS = 2.0
MOST_WATCHERS = 32


class Live:
    """Serves all viewers of the live page."""

    def __init__(self, view: View, stopping: asyncio.Event) -> None:
        self._view, self._stopping = view, stopping
        self.watchers = 0

    async def events(self, language: str) -> AsyncIterator[str]:
        """Events until the hub stops, or the viewer is gone."""
        self.watchers += 1
        try:
            told: dict[str, Any] = {}
            while not self._stopping.is_set():
                event = await self._changes(told, language)
                yield f"data: {json.dumps(event)}\n\n" if event else ": still there\n\n"
                await set_within(EACH_SECONDS, self._stopping)
        finally:
            self.watchers -= 1

    async def _changes(self, told: dict[str, Any], language: str) -> dict[str, Any]:
        """The changes since TOLD, which is updated."""
        try:
            fleet = await self._view.fleet()
        except DatabaseFailed:
            return {"trouble": words(language)["database"]}
        cards = [shown(card, language) for card in (*fleet.workers, *fleet.watches, *fleet.sites)]
        event: dict[str, Any] = {"cards": [card for card in cards if told.get(card["id"]) != card]}
        order = [card["id"] for card in cards]
        if told.get("order") != order:
            event["order"] = order
        headline = headline_of(fleet.trouble, sum(card["level"] == "wrong" for card in cards), language)
        rest = {"headline": headline, "last": fleet.last_at, "given_up": lines(fleet.given_up, language)}
        told |= {card["id"]: card for card in cards} | {"order": order}
        changed = told.get("rest") != rest
        told["rest"] = rest
        return {**event, **rest, "now": fleet.now} if event["cards"] or changed or "order" in event else {}


def headline_of(trouble: str, wrong: int, language: str) -> str:
    """What is wrong, in a few words."""
    t = words(language)
    parts = [t[f"trouble_{trouble}"]] if trouble else []
    parts += [f"{wrong} {t['in_trouble']}"] if wrong else []
    return "; ".join(parts) or t["calm"]
