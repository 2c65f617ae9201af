"""Addresses: pages for people, the same as JSON under /api, and their description."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fleet.errors import DatabaseFailed
from fleet.model import Fleet as FleetSettings
from fleet.outcomes import ENDINGS
from hub.doors import Doors
from hub.queue import reading
from hub.web.acting import Acting, offered
from hub.web.adding import jobs_of, permit
from hub.web.asked import before, broken, html, json, language, number, one_of, refused, wants_json
from hub.web.described import Receipt, Results, described
from hub.web.guard import Guard, Readers
from hub.web.live import MOST_WATCHERS, Live, headline_of
from hub.web.pages import HERE, shown, told
from hub.web.pictures import Shelf
from hub.web.places import Places
from hub.web.states import States
from hub.web.view import View, newest, whole

PAGE = 50
_PLURALS = {"worker": "workers", "watch": "watches", "site": "sites"}
_FILES = {"page.js": "text/javascript", "page.css": "text/css"}


def application(
    fleet: FleetSettings, view: View, shelf: Shelf, states: States, doors: Doors, *, stopping: asyncio.Event
) -> ASGIApp:
    """The whole web application, behind its guards."""
    site = Site(fleet, view, shelf, Live(view, stopping))
    routes = [
        Route("/", site.fleet),
        Route("/results", site.results),
        Route("/results/{job:int}.{fence:int}", site.run),
        Route("/jobs", site.jobs),
        Route("/pictures/{job:int}.{fence:int}/{name}", site.picture),
        Route("/live", site.live),
        Route("/healthz", states.healthz),
        Route("/pressure", states.pressure),
        Route("/metrics", states.metrics),
        Route("/api/fleet", site.fleet),
        Route("/api/results", site.results),
        Route("/api/results/{job:int}.{fence:int}", site.run),
        Route("/api/jobs", site.jobs),
        Route("/api/jobs", site.add, methods=["POST"]),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/openapi.json", lambda _: JSONResponse(described())),
        *Places(view, doors, offered(fleet.hub.web)).routes(),
        *Acting(view, fleet.hub.web, doors).routes(),
        *(Route(f"/{name}", _file(name)) for name in _FILES),
    ]
    errors: Any = {DatabaseFailed: broken, HTTPException: refused}
    before = [Middleware(Guard), Middleware(Readers, web=fleet.hub.web)]
    return Starlette(routes=routes, middleware=before, exception_handlers=errors)


class Site:
    """A method for each address; under /api it answers with JSON."""

    def __init__(self, fleet: FleetSettings, view: View, shelf: Shelf, live: Live) -> None:
        self._fleet = fleet
        self._view, self._shelf, self._live = view, shelf, live

    async def fleet(self, request: Request) -> Response:
        """The overview."""
        fleet = await self._view.fleet()
        if wants_json(request):
            return json(fleet)
        tongue = language(request)
        cards = {"worker": fleet.workers, "watch": fleet.watches, "site": fleet.sites}
        groups = [(kind, _PLURALS[kind], [shown(one, tongue) for one in found]) for kind, found in cards.items()]
        wrong = sum(one.level == "wrong" for found in cards.values() for one in found)
        headline, given_up = headline_of(fleet.trouble, wrong, tongue), told(fleet.given_up, tongue)
        return html(request, "fleet.j2", fleet=fleet, groups=groups, headline=headline, given_up=given_up)

    async def results(self, request: Request) -> Response:
        """Runs, the newest first; the next page begins after the last of this one."""
        which: dict[str, Any] = {"before": before(request), "site": request.query_params.get("site") or None}
        which["outcome"] = one_of(request, "outcome", ENDINGS)
        runs = await self._view.read(lambda: newest(self._view.database, PAGE, **which))
        more = f"{runs[-1].job}.{runs[-1].fence}" if len(runs) == PAGE else ""
        if wants_json(request):
            return json(Results(runs=tuple(runs), next=more))
        return html(request, "results.j2", runs=runs, more=more, outcomes=ENDINGS, **which)

    async def run(self, request: Request) -> Response:
        """One run."""
        job, fence = number(request, "job"), number(request, "fence")
        found = await self._view.read(lambda: whole(self._view.database, job, fence))
        if found is None:
            raise HTTPException(404)
        return json(found) if wants_json(request) else html(request, "run.j2", it=found, run=found.run)

    async def jobs(self, request: Request) -> Response:
        """Jobs that can still run, by number."""
        after, state = number(request, "after", 0), one_of(request, "state", ("ready", "leased", "aside"))
        site = request.query_params.get("site") or None
        found = await self._view.read(
            lambda: reading.page_of_jobs(self._view.database, PAGE, after=after, state=state, site=site)
        )
        more = str(found[-1]["id"]) if len(found) == PAGE else ""
        if wants_json(request):
            return JSONResponse({"jobs": [dict(one) for one in found], "next": more})
        return html(request, "jobs.j2", jobs=found, more=more, state=state, site=site)

    async def add(self, request: Request) -> Response:
        """Put jobs into the queue."""
        permit(request, self._fleet.hub.web.token_file)
        jobs = await jobs_of(request, self._fleet, self._view.queue.declared)
        receipts = await self._view.queue.do(lambda: self._view.queue.store.add(jobs))
        return JSONResponse([Receipt(job=one.job, added=one.added.value).model_dump() for one in receipts])

    async def picture(self, request: Request) -> Response:
        """A picture of a run, as it was when the run ended."""
        job, fence, name = number(request, "job"), number(request, "fence"), request.path_params["name"]
        worker, pictures = await self._view.read(lambda: self._shelf.known(job, fence))
        content = await asyncio.to_thread(self._shelf.content, worker, pictures, name)
        if content is None:
            raise HTTPException(404)
        return Response(content[0], media_type=content[1])

    async def live(self, request: Request) -> Response:
        """Changes of the overview, as events."""
        if self._live.watchers >= MOST_WATCHERS:
            return PlainTextResponse("too many watch\n", 503)
        return StreamingResponse(self._live.events(language(request)), media_type="text/event-stream")


def _file(name: str) -> Any:
    return lambda _: FileResponse(HERE / name, media_type=_FILES[name])
