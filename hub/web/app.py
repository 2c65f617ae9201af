"""Addresses: pages for people, the same as JSON under /api, and their description."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel, TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fleet import VERSION
from fleet.errors import DatabaseFailed
from fleet.model import Fleet as FleetSettings
from fleet.outcomes import ENDINGS
from hub.queue import reading
from hub.web.adding import jobs_of, permit
from hub.web.guard import Guard
from hub.web.live import MOST_WATCHERS, Live, headline_of
from hub.web.pages import HERE, page, shown
from hub.web.pictures import Shelf
from hub.web.view import Fleet, Run, View, Whole, newest
from hub.web.words import LANGUAGES, language_of, words

PAGE = 50
_FILES = {"page.js": "text/javascript", "page.css": "text/css"}


def application(fleet: FleetSettings, view: View, shelf: Shelf, stopping: asyncio.Event) -> ASGIApp:
    """All of it."""
    site = Site(fleet, view, shelf, Live(view, stopping))
    routes = [
        Route("/", site.fleet),
        Route("/results", site.results),
        Route("/results/{job:int}.{fence:int}", site.run),
        Route("/jobs", site.jobs),
        Route("/pictures/{job:int}.{fence:int}/{name}", site.picture),
        Route("/live", site.live),
        Route("/healthz", site.healthz),
        Route("/api/fleet", site.fleet),
        Route("/api/results", site.results),
        Route("/api/results/{job:int}.{fence:int}", site.run),
        Route("/api/jobs", site.jobs),
        Route("/api/jobs", site.add, methods=["POST"]),
        Route("/favicon.ico", lambda _: Response(status_code=204)),
        Route("/openapi.json", lambda _: JSONResponse(described())),
        *(Route(f"/{name}", _file(name)) for name in _FILES),
    ]
    errors: Any = {DatabaseFailed: _broken, HTTPException: _refused}
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers=errors)


class Site:
    """A method for each address; under /api it answers with JSON."""

    def __init__(self, fleet: FleetSettings, view: View, shelf: Shelf, live: Live) -> None:
        self._fleet = fleet
        self._view, self._shelf, self._live = view, shelf, live

    async def fleet(self, request: Request) -> Response:
        """The first look."""
        fleet = await self._view.fleet()
        if _wants_json(request):
            return _json(fleet)
        tongue = _language(request)
        groups = {
            name: [shown(card, tongue) for card in cards]
            for name, cards in (("worker", fleet.workers), ("site", fleet.sites))
        }
        wrong = sum(card["level"] == "wrong" for cards in groups.values() for card in cards)
        return _page(
            request, "fleet.j2", fleet=fleet, groups=groups, headline=headline_of(fleet.trouble, wrong, tongue)
        )

    async def results(self, request: Request) -> Response:
        """Runs, the newest first; the next page begins after the last of this one."""
        which: dict[str, Any] = {"before": _before(request), "site": request.query_params.get("site") or None}
        which["outcome"] = _one_of(request, "outcome", ENDINGS)
        runs = await self._view.read(lambda: newest(self._view.database, PAGE, **which))
        more = f"{runs[-1].job}.{runs[-1].fence}" if len(runs) == PAGE else ""
        if _wants_json(request):
            return _json(Results(runs=tuple(runs), next=more))
        return _page(request, "results.j2", runs=runs, more=more, outcomes=ENDINGS, **which)

    async def run(self, request: Request) -> Response:
        """One run."""
        found = await self._view.run(_number(request, "job"), _number(request, "fence"))
        if found is None:
            raise HTTPException(404)
        return _json(found) if _wants_json(request) else _page(request, "run.j2", it=found, run=found.run)

    async def jobs(self, request: Request) -> Response:
        """What can still run, by number."""
        after, state = _number(request, "after", 0), _one_of(request, "state", ("ready", "leased", "aside"))
        site = request.query_params.get("site") or None
        found = await self._view.read(
            lambda: reading.page_of_jobs(self._view.database, PAGE, after=after, state=state, site=site)
        )
        more = str(found[-1]["id"]) if len(found) == PAGE else ""
        if _wants_json(request):
            return JSONResponse({"jobs": [dict(one) for one in found], "next": more})
        return _page(request, "jobs.j2", jobs=found, more=more, state=state, site=site)

    async def add(self, request: Request) -> Response:
        """Put jobs into the queue."""
        permit(request, self._fleet.hub.web.token_file)
        jobs = await jobs_of(request, self._fleet)
        receipts = await self._view.queue.do(lambda: self._view.queue.store.add(jobs))
        return JSONResponse([{"job": one.job, "added": one.added.value} for one in receipts])

    async def picture(self, request: Request) -> Response:
        """A picture of a run, as it was when the run ended."""
        job, fence, name = _number(request, "job"), _number(request, "fence"), request.path_params["name"]
        worker, pictures = await self._view.read(lambda: self._shelf.known(job, fence))
        content = await asyncio.to_thread(self._shelf.content, worker, pictures, name)
        if content is None:
            raise HTTPException(404)
        return Response(content[0], media_type=content[1])

    async def live(self, request: Request) -> Response:
        """How the first look changes."""
        if self._live.watchers >= MOST_WATCHERS:
            return PlainTextResponse("too many watch\n", 503)
        return StreamingResponse(self._live.events(_language(request)), media_type="text/event-stream")

    async def healthz(self, _: Request) -> Response:
        """200 while nothing stops all of the work, else 503 with the reason in a word."""
        try:
            fleet = await self._view.fleet()
        except DatabaseFailed:
            return JSONResponse({"ok": False, "reason": "database", "last_good_seconds": None}, 503)
        last = None if fleet.last_good_at is None else round(time.time() - fleet.last_good_at, 1)
        said = {"ok": not fleet.trouble, "reason": fleet.trouble, "last_good_seconds": last}
        return JSONResponse(said, 503 if fleet.trouble else 200)


class Results(BaseModel, frozen=True):
    """A page of runs; `next` is `from` of the next one, "" at the end."""

    runs: tuple[Run, ...]
    next: str


def described() -> dict[str, Any]:
    """The OpenAPI document of what is under /api."""
    listed = {
        "/api/fleet": ((), Fleet),
        "/api/results": (("from", "outcome", "site"), Results),
        "/api/results/{job}.{fence}": (("job", "fence"), Whole),
        "/api/jobs": (("after", "state", "site"), dict[str, Any]),
    }
    paths = {path: {"get": _operation(path, *each)} for path, each in listed.items()}
    many = {name: {"schema": {"type": "string"}} for name in ("application/jsonl", "text/csv")}
    added = {"requestBody": {"required": True, "content": many}, "security": [{"token": []}]}
    paths["/api/jobs"]["post"] = {**_operation("", (), list[dict[str, Any]]), **added}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fleet", "version": VERSION},
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(path: str, names: tuple[str, ...], kind: Any) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    places = {name: "path" if f"{{{name}}}" in path else "query" for name in names}
    parameters = [
        {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
        for name, place in places.items()
    ]
    content = {"application/json": {"schema": schema}}
    return {"parameters": parameters, "responses": {"200": {"description": "as asked", "content": content}}}


def _file(name: str) -> Any:
    return lambda _: FileResponse(HERE / name, media_type=_FILES[name])


def _json(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _language(request: Request) -> str:
    asked = request.query_params.get("lang", "")
    return asked if asked in LANGUAGES else language_of(request.headers.get("accept-language", ""))


def _page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    tongue = _language(request)
    return HTMLResponse(page(template, tongue, here=request.url.path, **values), status)


def _number(request: Request, name: str, otherwise: int | None = None) -> int:
    text = str(request.path_params.get(name, request.query_params.get(name, otherwise)))
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise HTTPException(400, f"{name}: {text[:30]!r} is no number")
    return int(text)


def _before(request: Request) -> tuple[int, int] | None:
    if not (text := request.query_params.get("from", "")):
        return None
    job, _, fence = text.partition(".")
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in (job, fence)):
        raise HTTPException(400, f"from: {text[:30]!r} is no JOB.FENCE")
    return int(job), int(fence)


def _one_of(request: Request, name: str, known: tuple[str, ...]) -> str | None:
    text = request.query_params.get(name) or None
    if text is not None and text not in known:
        raise HTTPException(400, f"{name}: {text[:30]!r} is none of {', '.join(known)}")
    return text


def _refused(request: Request, error: HTTPException) -> Response:
    if _wants_json(request):
        return JSONResponse({"error": error.detail}, error.status_code)
    text = words(_language(request))["missing"] if error.status_code == 404 else error.detail
    return _page(request, "plain.j2", error.status_code, text=text)


def _broken(request: Request, error: DatabaseFailed) -> Response:
    if _wants_json(request):
        return JSONResponse({"error": "the database does not answer"}, 503)
    return _page(request, "plain.j2", 503, text=words(_language(request))["database"])
