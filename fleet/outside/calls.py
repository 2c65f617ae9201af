"""Calls to servers of other people, by the host's own route: there, later, or never.

A server may be silent, slow, endless or lying: one deadline is over all of a call, and a bounded piece of its answer is
read. Nothing is followed anywhere. What a server says back of our secrets is in no word of ours.
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

with absent("click"):  # for a command line of its own, with rich and pygments
    import httpx

ANSWER_BYTES = 65_536
MOST_WAIT_SECONDS = 86_400.0
_FOR_GOOD = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 451})
"""What the next try would not change; all else may be a key that is set, or a server that is put right."""
_ALREADY = frozenset({409, 412})
_SHORTEST_SECRET = 4


MOST_LEVELS = 100


class Later(Exception):
    """It did not arrive, or nobody knows."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class Refused(Exception):
    """The server does not take it, and would not the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server said that has it."""

    status: int
    body: str
    whole: bool
    """The body is all of it."""

    @property
    def is_new(self) -> bool:
        """It had it not before."""
        return self.status not in _ALREADY

    def json(self) -> JsonValue:
        """The body as JSON; raises ValueError, also for what is nested deeper than anybody means.

        What one function can still read another, further down, could not write.
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
    """What settings say of a server."""

    @property
    def headers_file(self) -> str:
        """Lines `Name: value`."""

    @property
    def timeout_seconds(self) -> float:
        """For all of a call."""


class Web:
    """Calls to one server. Raises ConfigurationError for a file of headers that is none; NAME is its table."""

    def __init__(self, name: str, peer: Peer) -> None:
        self._headers = lines_of(f"{name}.headers_file", peer.headers_file)
        self._secrets = sorted({one for value in self._headers.values() for one in (value, *value.split())}, key=len)
        self._seconds = peer.timeout_seconds

    async def ask(self, method: str, url: str, once: str, **content: Any) -> Answer:
        """METHOD at URL, which a server may know again by ONCE; CONTENT as httpx takes it. Raises Later, Refused."""
        try:
            return await within(self._seconds, self._ask(method, url, once, content))
        except asyncio.TimeoutError:
            raise Later(f"no whole answer within {self._seconds:g} s") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise Later(self._told(f"{type(error).__name__}: {error}")) from None

    async def _ask(self, method: str, url: str, once: str, content: dict[str, Any]) -> Answer:
        own = {"user-agent": f"fleet/{VERSION}", "accept-encoding": "identity", "idempotency-key": once}
        # One clock: httpx' own would end at the same time, without a word.
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
    """The body that PARTS make as httpx takes them, and its content type."""
    made = httpx.Request("POST", "http://form", files=parts)
    return made.read(), str(made.headers["content-type"])


def lines_of(key: str, file: str) -> dict[str, str]:
    """The lines `Name: value` of FILE; raises ConfigurationError, which names the KEY of the settings."""
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
