"""Calls to other people's servers over the host's own route: delivered, to be retried, or refused for good.

A server may be silent, slow, endless or malicious: one deadline covers the whole call, and the answer is read up to a
limit. Redirects are not followed. Secrets that a server sends back are removed from answers and messages.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pydantic import JsonValue

from fleet import VERSION, visible
from fleet.errors import ConfigurationError
from fleet.imports import absent
from fleet.outside.rest import retry_after
from fleet.sockets.deadline import within

with absent("click"):  # only for httpx's own command line, with rich and pygments
    import httpx

ANSWER_BYTES = 65_536
MOST_WAIT_SECONDS = 86_400.0
_FOR_GOOD = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 451})
"""Statuses that a retry would not change; all others may be cured by setting a key or repairing the server."""
_ALREADY = frozenset({409, 412})
_SHORTEST_SECRET = 4


MOST_LEVELS = 100


class Later(Exception):
    """The call failed, or its result is unknown: retry later."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class Refused(Exception):
    """The server refuses the request, and would refuse it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a server that has accepted the request."""

    status: int
    body: str
    whole: bool
    """Whether the body is complete."""

    @property
    def is_new(self) -> bool:
        """Whether the server did not have it before."""
        return self.status not in _ALREADY

    def json(self) -> JsonValue:
        """The body as JSON; raises ValueError, also for more than MOST_LEVELS levels of nesting.

        Deeper nesting that one function can still read could break another one that writes it.
        """
        try:
            said: JsonValue = json.loads(self.body)
        except RecursionError:
            raise ValueError("nested without end") from None
        level: list[JsonValue] = [said]
        for _ in range(MOST_LEVELS):
            level = [below for one in level for below in _below(one)]
            if not level:
                return said
        raise ValueError(f"nested deeper than {MOST_LEVELS} levels")


def _below(value: JsonValue) -> Iterable[JsonValue]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class Peer(Protocol):
    """The settings of a server."""

    @property
    def headers_file(self) -> str:
        """Lines `Name: value`."""

    @property
    def timeout_seconds(self) -> float:
        """For a whole call."""


class Web:
    """Calls to one server. Raises ConfigurationError for an invalid headers file; NAME is the server's table."""

    def __init__(self, name: str, peer: Peer) -> None:
        self._headers = lines_of(f"{name}.headers_file", peer.headers_file)
        self._secrets = sorted({one for value in self._headers.values() for one in (value, *value.split())}, key=len)
        self._seconds = peer.timeout_seconds

    async def ask(self, method: str, url: str, once: str, **content: Any) -> Answer:
        """Request URL with METHOD; ONCE is the idempotency key, CONTENT as httpx takes it. Raises Later, Refused."""
        try:
            return await within(self._seconds, self._ask(method, url, once, content))
        except asyncio.TimeoutError:
            raise Later(f"no whole answer within {self._seconds:g} s") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Later(self._told(f"{type(error).__name__}: {error}")) from None

    async def _ask(self, method: str, url: str, once: str, content: dict[str, Any]) -> Answer:
        own = {"user-agent": f"fleet/{VERSION}", "accept-encoding": "identity", "idempotency-key": once}
        # One time-out is enough: httpx' own would end at the same time, without a message.
        settings: dict[str, Any] = {"verify": _trust(), "timeout": None, "trust_env": False}
        async with httpx.AsyncClient(headers={**own, **self._headers}, **settings) as client:
            answer = await client.send(client.build_request(method, url, **content), stream=True)
            body, whole = await _body(answer)
        status = answer.status_code
        if answer.is_success or status in _ALREADY:
            return Answer(status=status, body=self._without_secrets(body).replace("\0", "\ufffd"), whole=whole)
        words = f"answered with status {status}: {self._told(body)[:300]}"
        if status in _FOR_GOOD:
            raise Refused(words)
        raise Later(words, retry_after(answer.headers.get("retry-after", ""), MOST_WAIT_SECONDS) or 0.0)

    def _told(self, text: str) -> str:
        return visible.line(self._without_secrets(text))[:500]

    def _without_secrets(self, text: str) -> str:
        for secret in reversed(self._secrets):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


async def _body(answer: httpx.Response) -> tuple[str, bool]:
    body = bytearray()
    try:
        async for part in answer.aiter_raw():
            body += part
            if len(body) > ANSWER_BYTES:
                break
    finally:
        await answer.aclose()
    return body[:ANSWER_BYTES].decode(errors="replace"), len(body) <= ANSWER_BYTES


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


def form(parts: Sequence[tuple[str, Any]]) -> tuple[bytes, str]:
    """The multipart body of PARTS (as httpx takes them), and its content type."""
    made = httpx.Request("POST", "http://form", files=parts)
    return made.read(), str(made.headers["content-type"])


def lines_of(key: str, file: str) -> dict[str, str]:
    """The lines `Name: value` of FILE; raises ConfigurationError naming KEY, the setting."""
    if not file:
        return {}
    try:
        text = Path(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no ASCII"
        reader = pwd.getpwuid(os.geteuid()).pw_name
        raise ConfigurationError(f"{key}: {file}: {why}", hint=f"the account {reader} reads it") from None
    lines: Sequence[tuple[str, str, str]] = [line.partition(":") for line in text.splitlines() if line.strip()]
    found = {before.strip(): after.strip() for before, colon, after in lines if before.strip() and colon}
    if len(found) != len(lines):
        raise ConfigurationError(f"{key}: {file} has a line that is no `Name: value`")
    return found
