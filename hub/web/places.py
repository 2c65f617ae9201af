"""Pages with details of a watch, a worker, a site, exits, keys, a moment; and the same under /api."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.errors import FleetError
from hub.doors import Doors
from hub.queue.politeness import Site
from hub.web.asked import html, json, language, number, wants_json
from hub.web.cards import Card, grouped, site_card
from hub.web.charts import chart
from hub.web.closer import Exits, One, by_exit, hours, moment, watched
from hub.web.keys import judged
from hub.web.view import View
from hub.web.words import words

MOST_RUNS = 50
T = TypeVar("T", Card, Site)


class Places:
    """A method for each address; under /api it answers with JSON."""

    def __init__(self, view: View, doors: Doors, can: tuple[str, ...]) -> None:
        """CAN: the acts for which the page has buttons."""
        self._view, self._doors, self._can = view, doors, can

    def routes(self) -> list[Route]:
        """Each route, with and without /api."""
        found = {
            "/watches/{job:int}": self.watch,
            "/workers/{name:path}": self.worker,
            "/sites/{name:path}": self.site,
            "/exits": self.exits,
            "/keys": self.keys,
            "/around/{job:int}.{fence:int}": self.around,
        }
        return [Route(f"{before}{path}", method) for before in ("", "/api") for path, method in found.items()]

    async def watch(self, request: Request) -> Response:
        """A watch, with its newest run at each exit."""
        job = number(request, "job")
        found = await self._view.read(lambda: watched(self._view.database, job))
        if found is None:
            raise HTTPException(404)
        if wants_json(request):
            return json(found)
        charts = [made for name, lines in found.series.items() if (made := chart(name, lines))]
        return html(request, "watch.j2", it=found, charts=charts, can=self._can)

    async def worker(self, request: Request) -> Response:
        """A worker with its newest runs."""
        sight = await self._view.sight()
        card = _named(request, sight.fleet.workers)
        ago = None if card.last_at is None else round(sight.fleet.now - card.last_at)
        facts = {"busy_with": card.detail or None, "seconds_ago": ago}
        runs = [run for run in sight.runs if run.worker == card.name]
        return self._one(request, "worker", One(card=card, facts=facts, runs=tuple(runs[:MOST_RUNS])))

    async def site(self, request: Request) -> Response:
        """A site with its pace and its newest runs."""
        sight = await self._view.sight()
        site = _named(request, sight.sites)
        runs = [run for run in sight.runs if run.site == site.name]
        card = site_card(site, grouped(runs, "site").get(site.name, ()), sight.fleet.now)
        facts = {
            "pace_seconds": site.pace_seconds,
            "interval_seconds": site.interval_seconds,
            "crawl_delay": site.crawl_delay,
            "at_once": card.detail,
            "next_seconds": None if site.wake_at is None else max(0.0, round(site.wake_at - time.time(), 1)),
        }
        found = await self._view.read(lambda: hours(self._view.database, site.name, sight.fleet.now))
        return self._one(request, "site", One(card=card, facts=facts, runs=tuple(runs[:MOST_RUNS]), hours=found))

    async def exits(self, request: Request) -> Response:
        """VPN servers by the results of their runs."""
        found = by_exit((await self._view.sight()).runs)
        return json(Exits(exits=found)) if wants_json(request) else html(request, "exits.j2", exits=found)

    async def keys(self, request: Request) -> Response:
        """The keys of each VPN server; 503 while netctl does not answer."""
        try:
            found = judged(await self._doors.servers())
        except FleetError as error:
            raise HTTPException(503, f"netctl: {error.message}") from error
        return json(found) if wants_json(request) else html(request, "keys.j2", it=found)

    async def around(self, request: Request) -> Response:
        """What all workers did around a run."""
        job, fence = number(request, "job"), number(request, "fence")
        found = await self._view.read(lambda: moment(self._view.database, job, fence))
        if found is None:
            raise HTTPException(404)
        return json(found) if wants_json(request) else html(request, "around.j2", it=found)

    def _one(self, request: Request, kind: str, found: One) -> Response:
        if wants_json(request):
            return json(found)
        t = words(language(request))
        lines = {t[outcome]: points for outcome, points in found.lines.items()}
        drawn = chart(t["by_hour"], lines) if kind == "site" else chart(t["seconds"], {found.card.name: found.seconds})
        return html(request, "one.j2", kind=kind, it=found, chart=drawn, can=self._can)


def _named(request: Request, many: Iterable[T]) -> T:
    for one in many:
        if one.name == request.path_params["name"]:
            return one
    raise HTTPException(404)
