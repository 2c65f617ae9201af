"""The state of the fleet, for programs: `/healthz`, `/pressure` and `/metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from fleet.errors import DatabaseFailed
from fleet.machine.room import Room
from hub.web.asked import json
from hub.web.cards import AWAY
from hub.web.metrics import CONTENT_TYPE, Metrics
from hub.web.view import Sight, View

MOST_TOLD = 20


class Health(BaseModel, frozen=True):
    """Whether runs succeed and every watch gets its results in time."""

    ok: bool
    reason: str
    """`database`, or one of hub.web.cards.Trouble."""
    last_good_seconds: float | None
    late: tuple[str, ...]


class Pressed(BaseModel, frozen=True):
    """Whether more work can be taken; numbers are null while the database does not answer."""

    reason: str
    ready: int | None = None
    running: int | None = None
    could_begin_for_seconds: float | None = None
    workers: int | None = None
    away: int | None = None


class States:
    """A method for each address."""

    def __init__(self, view: View, metrics: Metrics, room: Callable[[], Room]) -> None:
        self._view, self._metrics, self._room = view, metrics, room

    async def healthz(self, _: Request) -> Response:
        """200 while runs succeed and every watch gets its results in time, else 503 with the reason in one word."""
        if (sight := await self._sight()) is None:
            return json(Health(ok=False, reason="database", last_good_seconds=None, late=()), 503)
        fleet = sight.fleet
        last = None if fleet.last_good_at is None else round(time.time() - fleet.last_good_at, 1)
        late = tuple(card.name for card in fleet.watches if card.state == "late")[:MOST_TOLD]
        said = Health(ok=not fleet.trouble, reason=fleet.trouble, last_good_seconds=last, late=late)
        return json(said, 503 if fleet.trouble else 200)

    async def pressure(self, _: Request) -> Response:
        """200 while more work can be taken, else 503 with the reason in one word."""
        if (sight := await self._sight()) is None:
            return json(Pressed(reason="database"), 503)
        since = None if sight.since is None else max(0.0, round(time.time() - sight.since, 1))
        workers = [card.state for card in sight.fleet.workers]
        said = Pressed(
            reason=sight.pressure,
            ready=sight.backlog.ready,
            running=sight.backlog.leased,
            could_begin_for_seconds=since,
            workers=len(workers),
            away=sum(map(workers.count, AWAY)),
        )
        return json(said, 503 if sight.pressure else 200)

    async def metrics(self, _: Request) -> Response:
        """Always 200: `fleet_database_up` tells whether the database answers."""
        return Response(self._metrics.text(await self._sight(), self._room()), media_type=CONTENT_TYPE)

    async def _sight(self) -> Sight | None:
        try:
            return await self._view.sight()
        except DatabaseFailed:
            return None
