"""What netctl asks the program that speaks to the key service. A private key crosses this socket alone, to netctl."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Message, Request

ANSWERED_SECONDS = 10.0
"""After the service's own deadline: the program has its answer by then, or is not well."""


class Allocate(Request):
    """A key, of SERVER where one is named; the answer is Allocated."""

    method: ClassVar[str] = "allocate"
    server: str = ""


class Allocated(Message):
    """A key as the service gave it, not judged yet."""

    config: str | None = Field(default=None, repr=False)
    server: str | None = None
    port: str | None = None
    server_key: str | None = None
    private_key: str | None = Field(default=None, repr=False)
    public_key: str | None = None
    address: str | None = None
    back: dict[str, JsonValue] = Field(default_factory=dict)
    """What `release` is to be told."""


class GiveBack(Request):
    """Tell the service that a key is free again; the answer is Done."""

    method: ClassVar[str] = "give_back"
    back: dict[str, JsonValue]


class AskStatus(Request):
    """Whether the service is well; the answer is Done."""

    method: ClassVar[str] = "ask_status"


_NETCTL = frozenset({Caller.OPERATOR})
TABLE = Table(
    "keyservice",
    Row(request=Allocate, callers=_NETCTL, seconds=86_500, routine=True),
    Row(request=GiveBack, callers=_NETCTL, seconds=86_500, routine=True),
    Row(request=AskStatus, callers=_NETCTL, seconds=86_500, routine=True),
)
"""netctl's account alone; each ends by its own deadline (`keys.source.timeout_seconds`)."""
