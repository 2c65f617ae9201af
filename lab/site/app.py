"""The shop as an ASGI application, and its access log."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from datetime import datetime, timezone
from typing import Final, TextIO

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lab.site import hostile, pages
from lab.site.catalogue import search

LATENCY_SECONDS: Final = 0.3
_NO_STORE: Final = {"cache-control": "no-store"}
_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


class AccessLog:
    """One JSON line per request: time, client, path, protocol. Written before the answer."""

    def __init__(self, app: ASGIApp, file: TextIO) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            line = {
                "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "address": _address(scope),
                "path": scope["path"],
                "query": scope["query_string"].decode("latin-1"),
                "protocol": scope["http_version"],
            }
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        await self._app(scope, receive, send)


def application(access_log: TextIO) -> Starlette:
    """The shop, writing who asked for what to ACCESS_LOG."""
    return Starlette(
        routes=[
            Route("/", _home),
            Route("/search", _search),
            Route("/ip", _ip),
            Route("/robots.txt", _robots),
            Route("/busy/{seconds:int}", _busy),
            Route("/hostile", _hostile),
            Route("/hostile/rebound", _rebound),
            Route("/hostile/{report:str}", _ip),
            Route("/asset/image/{number:int}.svg", _image),
            Route("/asset/text/{name:str}", _text),
        ],
        middleware=[Middleware(AccessLog, file=access_log)],
    )


def _address(scope: Scope) -> str:
    """The caller's address; a port that listens for both versions shows IPv4 as ::ffff:..."""
    address = ipaddress.ip_address(scope["client"][0])
    mapped = address.ipv4_mapped if address.version == 6 else None
    return str(mapped or address)


async def _robots(_: Request) -> Response:
    return PlainTextResponse("User-agent: *\nDisallow: /private\n")


async def _home(request: Request) -> Response:
    return HTMLResponse(pages.home(_address(request.scope)), headers=_NO_STORE)


async def _search(request: Request) -> Response:
    words, page = request.query_params.get("q", "")[:200], request.query_params.get("page", "1")
    number = int(page) if page.isdecimal() else 1
    return HTMLResponse(pages.results(words, search(words), number, _address(request.scope)), headers=_NO_STORE)


async def _busy(request: Request) -> Response:
    """The answer of a shop that was asked too often."""
    headers = {**_NO_STORE, "retry-after": str(request.path_params["seconds"])}
    return PlainTextResponse("잠시 후 다시 시도해 주세요", status_code=429, headers=headers)


async def _hostile(request: Request) -> Response:
    asked = request.query_params
    return HTMLResponse(hostile.page(asked.getlist("at"), asked.getlist("rebind")), headers=_NO_STORE)


async def _rebound(_: Request) -> Response:
    return HTMLResponse(hostile.rebound(), headers=_NO_STORE)


async def _ip(request: Request) -> Response:
    return PlainTextResponse(_address(request.scope), headers=_NO_STORE)


async def _image(request: Request) -> Response:
    await asyncio.sleep(LATENCY_SECONDS)
    return Response(pages.picture(request.path_params["number"]), media_type="image/svg+xml", headers=_NO_STORE)


async def _text(request: Request) -> Response:
    await asyncio.sleep(LATENCY_SECONDS)
    name = request.path_params["name"]
    text = pages.TEXTS.get(name)
    if text is None:
        return PlainTextResponse("", status_code=404, headers=_NO_STORE)
    return Response(text, media_type=_KINDS[name.rpartition(".")[2]], headers=_NO_STORE)
