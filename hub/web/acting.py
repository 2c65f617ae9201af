"""The acts of a person with the token on the page: on sites, on jobs that were set aside, and on workers.

`hub.web.acts` says which are allowed.

The token is typed for each act, and there is no cookie: browsers send cookies of one port of 127.0.0.1 to every other
port, and another user's server may listen there. Without the token the page only reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import parse_qs, urlencode

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fleet import log
from fleet.errors import DatabaseFailed, FleetError, TryLater
from fleet.settings.hub import WebSettings
from hub.doors import Doors
from hub.web.adding import permit
from hub.web.asked import body_of, html, json, language, link, number, wants_json
from hub.web.seldom import Seldom
from hub.web.view import View

SITE, RETRY, WORKER = ("pause", "resume"), "retry", ("stop", "start", "rotate")
Do = Callable[[], Awaitable[bool]]
MOST_KEPT = 200
MOST_REFUSED = 20
"""Kept apart from the others, so that refused tries do not push out what was done."""
_MOST_BYTES = 4096


class Act(BaseModel, frozen=True):
    """An act that was done here, or tried."""

    at: float
    what: str
    """One of `hub.web.acts`."""
    of: str
    done: str
    """`done`, `failed`, `unknown` (there is no such thing), or `refused` (without the token)."""


class Acts(BaseModel, frozen=True):
    """The acts since the hub started, the newest first."""

    acts: tuple[Act, ...]


class Acting:
    """A method for each address."""

    def __init__(self, view: View, web: WebSettings, doors: Doors) -> None:
        self._view, self._web, self._doors = view, web, doors
        self._acts: deque[Act] = deque(maxlen=MOST_KEPT)
        self._refused: deque[Act] = deque(maxlen=MOST_REFUSED)
        self._log, self._seldom = log.get("hub"), Seldom()

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/sites/{name:path}", self.site, methods=["POST"]),
            Route("/watches/{job:int}", self.job, methods=["POST"]),
            Route("/workers/{name:path}", self.worker, methods=["POST"]),
            Route("/acts", self.acts),
            Route("/api/acts", self.acts),
        ]

    async def acts(self, request: Request) -> Response:
        """What was done."""
        newest = sorted((*self._acts, *self._refused), key=lambda act: act.at, reverse=True)
        found = Acts(acts=tuple(newest))
        if wants_json(request):
            return json(found)
        return html(request, "acts.j2", acts=found.acts, can=offered(self._web))

    async def site(self, request: Request) -> Response:
        """Pause it, or resume it."""
        name, store = request.path_params["name"], self._view.queue.store
        known = {what: self._stored(partial(store.pause, name, paused=what == "pause")) for what in SITE}
        return await self._act(request, name, known)

    async def job(self, request: Request) -> Response:
        """Retry it."""
        job, store = number(request, "job"), self._view.queue.store
        return await self._act(request, str(job), {RETRY: self._stored(lambda: bool(store.retry([job])))})

    async def worker(self, request: Request) -> Response:
        """Stop it, start it, or change its exit."""
        name = request.path_params["name"]
        return await self._act(request, name, {what: partial(self._told, what, name) for what in WORKER})

    def _stored(self, work: Callable[[], bool]) -> Do:
        return lambda: self._view.queue.do(work)

    async def _told(self, what: str, name: str) -> bool:
        if name not in {seat.worker.name for seat in self._view.queue.seats.values()}:
            return False
        await self._doors.act(what, name)
        return True

    async def _act(self, request: Request, of: str, every: Mapping[str, Do]) -> Response:
        said, known = await _form(request), {what: do for what, do in every.items() if what in self._web.acts}
        what = said.get("what", "")
        if what not in known:
            raise HTTPException(400, f"what: {what[:30]!r} is not one of {', '.join(known)}")
        try:
            permit(request, self._web.token_file, typed=said.get("token", ""))
        except HTTPException:
            self._keep(what, of, "refused")
            raise
        try:
            done = await known[what]()
        except DatabaseFailed:
            raise
        except FleetError as error:
            self._keep(what, of, "failed")
            words = f"{error.message}; {error.hint}" if error.hint else error.message
            raise HTTPException(503 if isinstance(error, TryLater) else 409, words) from error
        self._keep(what, of, "done" if done else "unknown")
        self._view.forget()
        if not done:
            raise HTTPException(404)
        return RedirectResponse(f"{link(request)}{request.url.path}?{urlencode({'lang': language(request)})}", 303)

    def _keep(self, what: str, of: str, done: str) -> None:
        act = Act(at=time.time(), what=what, of=of[:300], done=done)
        (self._refused if done == "refused" else self._acts).appendleft(act)
        if times := self._seldom.due() if done == "refused" else 1:
            self._log.info("page.act", what=what, of=act.of, done=done, **({"times": times} if times > 1 else {}))


def offered(web: WebSettings) -> tuple[str, ...]:
    """The acts for which the page has buttons."""
    return web.acts if web.token_file else ()


async def _form(request: Request) -> dict[str, str]:
    body = await body_of(request, _MOST_BYTES, "more than a form holds")
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
