"""Reads a request, and builds the answer in the format and the language that it asks for."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from fleet.errors import DatabaseFailed
from hub.web.pages import page
from hub.web.words import LANGUAGES, language_of, words

_DIGITS = 18
_OURS = re.compile(r'\b(href|src|action)="/')
"""Addresses of this page in its templates; in text from elsewhere the quotation mark is escaped."""


def json(value: BaseModel, status: int = 200) -> Response:
    """VALUE as a JSON answer."""
    return Response(value.model_dump_json(), status, media_type="application/json")


def wants_json(request: Request) -> bool:
    """Whether a program asks (for JSON)."""
    return request.url.path.startswith("/api/")


def language(request: Request) -> str:
    """The language that the request names, else that of its browser."""
    asked = request.query_params.get("lang", "")
    return asked if asked in LANGUAGES else language_of(request.headers.get("accept-language", ""))


def html(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """TEMPLATE with VALUES; after a link (fleet.look) all addresses begin with it."""
    by = link(request)
    text = page(template, language(request), here=request.url.path, look=by, **values)
    return HTMLResponse(_OURS.sub(rf'\1="{by}/', text) if by else text, status)


def link(request: Request) -> str:
    """The beginning of all addresses for a reader with a link (fleet.look)."""
    found: str = request.scope.get("look", "")
    return found


def number(request: Request, name: str, otherwise: int | None = None) -> int:
    """The number called NAME; raises HTTPException."""
    text = str(request.path_params.get(name, request.query_params.get(name, otherwise)))
    if not _is_number(text):
        raise HTTPException(400, f"{name}: {text[:30]!r} is not a number")
    return int(text)


def before(request: Request) -> tuple[int, int] | None:
    """The run after which a page begins; raises HTTPException."""
    if not (text := request.query_params.get("from", "")):
        return None
    job, _, fence = text.partition(".")
    if not (_is_number(job) and _is_number(fence)):
        raise HTTPException(400, f"from: {text[:30]!r} is not JOB.FENCE")
    return int(job), int(fence)


async def body_of(request: Request, most_bytes: int, otherwise: str) -> bytes:
    """The body; raises HTTPException, with the text OTHERWISE, for more than MOST_BYTES."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise HTTPException(413, otherwise)
    return bytes(body)


def one_of(request: Request, name: str, known: tuple[str, ...]) -> str | None:
    """The word called NAME, one of KNOWN; raises HTTPException."""
    text = request.query_params.get(name) or None
    if text is not None and text not in known:
        raise HTTPException(400, f"{name}: {text[:30]!r} is not one of {', '.join(known)}")
    return text


def refused(request: Request, error: Exception) -> Response:
    """The answer to a request that is refused."""
    assert isinstance(error, HTTPException)
    if wants_json(request):
        return JSONResponse({"error": error.detail}, error.status_code)
    text = words(language(request)).get(f"status_{error.status_code}", "")
    detail = {} if error.status_code == 404 else {"detail": error.detail}
    return html(request, "plain.j2", error.status_code, text=text, **detail)


def broken(request: Request, error: Exception) -> Response:
    """The answer while the database does not work."""
    assert isinstance(error, DatabaseFailed)
    if wants_json(request):
        return JSONResponse({"error": "the database does not answer"}, 503)
    return html(request, "plain.j2", 503, text=words(language(request))["database"])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
