"""Decides whom the page answers, and what a browser may do with the answer.

It listens on loopback. A foreign DNS name that points there is refused by its Host header, and a request from another
site's page by Sec-Fetch-Site and Origin; following a link from elsewhere is allowed, sending a form is not.
"""

from __future__ import annotations

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet import look
from fleet.settings.hub import WebSettings
from hub.web.adding import shows, token_of

HOSTS = ("127.0.0.1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


_FOR_ALL = ("/page.css", "/page.js", "/favicon.ico")
_NEEDED = "This page needs a link: sudo fleet page link\n보려면 링크가 필요합니다: sudo fleet page link\n"
_ENDED = "This link has expired, or is not valid.\n끝났거나 없는 링크입니다.\n"


class Guard:
    """Middleware in front of APP."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        if refused := _refused(Headers(scope=scope), scope["method"] in ("GET", "HEAD")):
            return await PlainTextResponse(refused, 403)(scope, receive, guarded)
        return await self._app(scope, receive, guarded)


class Readers:
    """Middleware between Guard and APP: it opens a link, and shows nothing without one if links are needed."""

    def __init__(self, app: ASGIApp, web: WebSettings) -> None:
        self._app, self._web = app, web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if path.startswith("/look/"):
                if (found := look.looked(path, token_of(self._web.token_file), time.time())) is None:
                    return await PlainTextResponse(_ENDED, 401)(scope, receive, send)
                scope = {**scope, "path": found.path, "raw_path": found.path.encode(), "look": found.link}
            elif self._web.readers == "link" and path not in _FOR_ALL and not self._has_token(scope):
                return await PlainTextResponse(_NEEDED, 401)(scope, receive, send)
        return await self._app(scope, receive, send)

    def _has_token(self, scope: Scope) -> bool:
        words = Headers(scope=scope).get("authorization", "")
        return bool(words) and shows(words, token_of(self._web.token_file))


def _refused(headers: Headers, reads: bool) -> str:
    host, _, _ = headers.get("host", "").partition(":")
    if host not in HOSTS:
        return f"ask for http://{HOSTS[0]}:PORT/\n"
    # For forms of this page a browser that sends Sec-Fetch-Site sends the origin "null", because pages set no-referrer.
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if not reads and site is None and origin not in (None, f"http://{headers.get('host')}"):
        return "not for pages of other sites\n"
    follows = reads and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not follows:
        return "not for pages of other sites\n"
    return ""
