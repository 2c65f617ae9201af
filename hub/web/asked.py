"""What a question says, and the answer in the form and the language that it asks for."""

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
"""Where our templates name an address of ours; in the words of others a quotation mark is escaped."""


def json(value: BaseModel, status: int = 200) -> Response:
    """VALUE as it is."""
    return Response(value.model_dump_json(), status, media_type="application/json")


def wants_json(request: Request) -> bool:
    """Whether a program asks."""
    return request.url.path.startswith("/api/")


def language(request: Request) -> str:
    """What it names, else what its browser speaks."""
    asked = request.query_params.get("lang", "")
    return asked if asked in LANGUAGES else language_of(request.headers.get("accept-language", ""))


def html(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """TEMPLATE with VALUES; who came by a link goes on by it."""
    by = link(request)
    text = page(template, language(request), here=request.url.path, look=by, **values)
    return HTMLResponse(_OURS.sub(rf'\1="{by}/', text) if by else text, status)


def link(request: Request) -> str:
    """How the addresses of who asks begin (fleet.look)."""
    found: str = request.scope.get("look", "")
    return found


def number(request: Request, name: str, otherwise: int | None = None) -> int:
    """The number called NAME; raises HTTPException."""
    text = str(request.path_params.get(name, request.query_params.get(name, otherwise)))
    if not _is_number(text):
        raise HTTPException(400, f"{name}: {text[:30]!r} is no number")
    return int(text)


def before(request: Request) -> tuple[int, int] | None:
    """The run after which a page begins; raises HTTPException."""
    if not (text := request.query_params.get("from", "")):
        return None
    job, _, fence = text.partition(".")
    if not (_is_number(job) and _is_number(fence)):
        raise HTTPException(400, f"from: {text[:30]!r} is no JOB.FENCE")
    return int(job), int(fence)


async def body_of(request: Request, most_bytes: int, otherwise: str) -> bytes:
    """What was sent; raises HTTPException, with the word OTHERWISE, for more than MOST_BYTES."""
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
        raise HTTPException(400, f"{name}: {text[:30]!r} is none of {', '.join(known)}")
    return text


def refused(request: Request, error: Exception) -> Response:
    """The answer to what cannot be answered."""
    assert isinstance(error, HTTPException)
    if wants_json(request):
        return JSONResponse({"error": error.detail}, error.status_code)
    text = words(language(request)).get(f"status_{error.status_code}", "")
    detail = {} if error.status_code == 404 else {"detail": error.detail}
    return html(request, "plain.j2", error.status_code, text=text, **detail)


def broken(request: Request, error: Exception) -> Response:
    """The answer while the database is away."""
    assert isinstance(error, DatabaseFailed)
    if wants_json(request):
        return JSONResponse({"error": "the database does not answer"}, 503)
    return html(request, "plain.j2", 503, text=words(language(request))["database"])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
