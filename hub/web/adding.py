"""`POST /api/jobs`: JSON Lines or CSV, as for `fleet job add --file`, from a client with the token.

A browser does not send this header for another site's page: that would need a CORS permission, which is not given.
"""

from __future__ import annotations

import hmac

from starlette.exceptions import HTTPException
from starlette.requests import Request

from fleet import log, look
from fleet.errors import UsageError
from fleet.model import Fleet
from hub import entering
from hub.declared import Declared
from hub.queue.values import Job
from hub.web.asked import body_of
from hub.web.seldom import Seldom

MOST_BYTES = 1 << 20
_WORDS = "Bearer "
_NO_TOKEN = Seldom()


def permit(request: Request, token_file: str, *, typed: str = "") -> None:
    """Raise HTTPException for a client without the token in TOKEN_FILE, in a header or TYPED into a form.

    The file is read each time, because it may change.
    """
    token = token_of(token_file)
    if len(token) < look.LEAST_TOKEN:
        raise HTTPException(
            403, f"hub.web.token_file names no token of {look.LEAST_TOKEN} characters: this page changes nothing"
        )
    if not shows(f"{_WORDS}{typed}" if typed else request.headers.get("authorization", ""), token):
        raise HTTPException(401, "the token is needed (a program sends Authorization: Bearer and the token)")


async def jobs_of(request: Request, fleet: Fleet, declared: Declared) -> list[Job]:
    """The jobs in REQUEST; raises HTTPException with what is wrong with them."""
    body = await body_of(request, MOST_BYTES, f"more than {MOST_BYTES >> 20} MiB: add them in parts")
    try:
        lines = entering.lines(body.decode())
        found = entering.jobs(lines, {"arguments": {}}, fleet.task, "body", tuple(fleet.hub.targets), declared=declared)
    except UnicodeDecodeError as error:
        raise HTTPException(400, f"is not UTF-8: {error}") from None
    except UsageError as error:
        raise HTTPException(400, error.message) from None
    for one in found:
        if ":" in one.task and one.task != fleet.task.run:
            raise HTTPException(400, f"task: {one.task[:50]!r} names a function; over HTTP use the name of a task")
    return found


def shows(words: str, token: str) -> bool:
    """Whether the header WORDS contains TOKEN, if that is long enough."""
    good = words.startswith(_WORDS) and hmac.compare_digest(words.removeprefix(_WORDS).encode(), token.encode())
    return good and len(token) >= look.LEAST_TOKEN


def token_of(path: str) -> str:
    """The token in the file at PATH; "" if there is none."""
    try:
        return look.token_in(path) if path else ""
    except (OSError, ValueError) as error:
        if _NO_TOKEN.due():
            log.get("hub").error("web.no_token", file=path, error=getattr(error, "strerror", "") or "is not ASCII")
        return ""
