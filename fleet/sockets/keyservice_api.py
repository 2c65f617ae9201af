"""netctl's requests to the program that talks to the key service. Private keys cross only this socket, to netctl."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Message, Request

ANSWERED_SECONDS = 10.0
"""Added to the service's own deadline: a program that has not answered by then has failed."""


class Allocate(Request):
    """Get a key, for SERVER if one is named; the reply is Allocated."""

    method: ClassVar[str] = "allocate"
    server: str = ""


class Allocated(Message):
    """A key as the service sent it, not checked yet."""

    config: str | None = Field(default=None, repr=False)
    server: str | None = None
    port: str | None = None
    server_key: str | None = None
    private_key: str | None = Field(default=None, repr=False)
    public_key: str | None = None
    address: str | None = None
    back: dict[str, JsonValue] = Field(default_factory=dict)
    """The values to send to `release`."""


class GiveBack(Request):
    """Give a key back to the service; the reply is Done."""

    method: ClassVar[str] = "give_back"
    back: dict[str, JsonValue]


class AskStatus(Request):
    """Ask the service whether it is well; the reply is Done."""

    method: ClassVar[str] = "ask_status"


_NETCTL = frozenset({Caller.OPERATOR})
TABLE = Table(
    "keyservice",
    Row(request=Allocate, callers=_NETCTL, seconds=86_500, routine=True),
    Row(request=GiveBack, callers=_NETCTL, seconds=86_500, routine=True),
    Row(request=AskStatus, callers=_NETCTL, seconds=86_500, routine=True),
)
"""Only for netctl's account; each request has its own deadline (`keys.source.timeout_seconds`)."""
