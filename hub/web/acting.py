"""What a person who has the token does on the page: a site pauses or goes on, a job that lies aside is tried once more.

The token is typed with each act, and there is no cookie: browsers give those of one port of 127.0.0.1 to every other
port, and another user's server may listen there. Everybody else only reads.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import parse_qs, urlencode

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fleet import log
from hub.web.adding import permit
from hub.web.asked import html, json, language, number, wants_json
from hub.web.view import View

SITE, RETRY = ("pause", "resume"), "retry"
MOST_KEPT = 200
MOST_REFUSED = 20
"""Apart from the others: whoever is refused pushes nothing out that somebody has done."""
_MOST_BYTES = 4096


class Act(BaseModel, frozen=True):
    """Something that was done here, or tried."""

    at: float
    what: str
    """`pause`, `resume` or `retry`."""
    of: str
    done: str
    """`done`, `unknown` (there is no such thing), or `refused` (without the token)."""


class Acts(BaseModel, frozen=True):
    """Those of this life of the hub, the newest first."""

    acts: tuple[Act, ...]


class Acting:
    """A method for each address."""

    def __init__(self, view: View, token_file: str) -> None:
        self._view, self._token_file = view, token_file
        self._acts: deque[Act] = deque(maxlen=MOST_KEPT)
        self._refused: deque[Act] = deque(maxlen=MOST_REFUSED)
        self._log = log.get("hub")

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/sites/{name:path}", self.site, methods=["POST"]),
            Route("/watches/{job:int}", self.job, methods=["POST"]),
            Route("/acts", self.acts),
            Route("/api/acts", self.acts),
        ]

    async def acts(self, request: Request) -> Response:
        """What was done."""
        newest = sorted((*self._acts, *self._refused), key=lambda act: act.at, reverse=True)
        found = Acts(acts=tuple(newest))
        if wants_json(request):
            return json(found)
        return html(request, "acts.j2", acts=found.acts, can=bool(self._token_file))

    async def site(self, request: Request) -> Response:
        """It pauses, or goes on."""
        name, store = request.path_params["name"], self._view.queue.store
        known = {what: partial(store.pause, name, paused=what == "pause") for what in SITE}
        return await self._act(request, name, known)

    async def job(self, request: Request) -> Response:
        """It is tried once more."""
        job, store = number(request, "job"), self._view.queue.store
        return await self._act(request, str(job), {RETRY: lambda: bool(store.retry([job]))})

    async def _act(self, request: Request, of: str, known: Mapping[str, Callable[[], bool]]) -> Response:
        said = await _form(request)
        what = said.get("what", "")
        if what not in known:
            raise HTTPException(400, f"what: {what[:30]!r} is none of {', '.join(known)}")
        try:
            permit(request, self._token_file, typed=said.get("token", ""))
        except HTTPException:
            self._keep(what, of, "refused")
            raise
        done = await self._view.queue.do(known[what])
        self._keep(what, of, "done" if done else "unknown")
        self._view.forget()
        if not done:
            raise HTTPException(404)
        return RedirectResponse(f"{request.url.path}?{urlencode({'lang': language(request)})}", 303)

    def _keep(self, what: str, of: str, done: str) -> None:
        act = Act(at=time.time(), what=what, of=of[:300], done=done)
        (self._refused if done == "refused" else self._acts).appendleft(act)
        self._log.info("page.act", what=what, of=act.of, done=done)


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "more than a form holds")
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
