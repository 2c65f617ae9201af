"""Requests and replies that cross a Unix socket: JSON, one object a line, at most 64 KiB.

    {"method": "connect", "parameters": {...}}
    {"result": {...}}   or   {"error": "NoKeyFree", "parameters": {"message", "hint", "data"}}

A worker's request carries no uid, interface, table, path or key: who calls comes from the socket's
peer credentials (`SO_PEERCRED`), never from the message.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fleet.errors import FleetError, ProtocolError, from_wire

FRAME_BYTES = 65_536
"""Longest line of either direction, its newline included."""

Address = IPv4Address | IPv6Address


class Message(BaseModel):
    """A frozen value of the wire; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(Message):
    """What a client asks for; each kind has a method name of its own."""

    method: ClassVar[str]


class Connect(Request):
    """Give the calling worker a tunnel over a fresh key; its connection then holds the lease.

    `resume` names a lease the worker still held when netctl went away; it is given back unchanged
    if it is still the worker's, and refused with TunnelLost otherwise.
    """

    method: ClassVar[str] = "connect"
    resume: str | None = Field(default=None, max_length=64)


class Rotate(Request):
    """Swap the calling worker's tunnel to another key; only on the connection that holds the lease."""

    method: ClassVar[str] = "rotate"


class Proved(Request):
    """The worker's first proof of a key whose exit address is not known yet."""

    method: ClassVar[str] = "proved"
    address: Address


class Status(Request):
    """Slots and keys: all of them for root, the caller's own slot for a worker."""

    method: ClassVar[str] = "status"


class Tunnel(Message):
    """A tunnel in use: the answer to connect and rotate, given only after the handshake."""

    interface: str
    exit_server: str
    """Name of the key's server: the endpoint's host in the key's .conf file."""
    exit_address: Address | None
    """Address the world should see; None until the key's first proof."""
    source: IPv4Address
    """The worker's placeholder source."""
    dns: tuple[Address, ...]
    lease: str
    generation: int
    """Counts the tunnels this slot has had since netctl's store was made."""
    handshake_milliseconds: float
    total_milliseconds: float


class SlotStatus(Message):
    """One slot as netctl sees it."""

    worker: str
    interface: str
    state: str
    """`sealed`, `connecting`, `connected` or `orphaned` (netctl restarted, its worker not back yet)."""
    exit_server: str | None
    exit_address: Address | None
    lease: str | None
    generation: int
    since: AwareDatetime
    received_bytes: int
    sent_bytes: int
    last_handshake: AwareDatetime | None


class PoolStatus(Message):
    """The key pool in numbers; never a key."""

    keys: int
    leased: int
    cooling: int
    free: int
    servers: int


class NetctlStatus(Message):
    """The answer to status."""

    backend: str
    pid: int
    slots: tuple[SlotStatus, ...]
    pool: PoolStatus | None
    """None for a worker, which sees its own slot alone."""


class Done(Message):
    """The answer of a request that has nothing to say."""


KINDS: dict[str, type[Request]] = {kind.method: kind for kind in (Connect, Rotate, Proved, Status)}
ReplyT = TypeVar("ReplyT", bound=Message)


def encode_request(request: Request) -> bytes:
    """One line."""
    return _line({"method": request.method, "parameters": request.model_dump(mode="json")})


def encode_result(reply: Message) -> bytes:
    """One line."""
    return _line({"result": reply.model_dump(mode="json")})


def encode_error(error: FleetError) -> bytes:
    """One line: the error's name and its data."""
    return _line({"error": type(error).__name__, "parameters": error.parameters()})


def decode_request(line: bytes) -> Request:
    """The request on LINE; raises ProtocolError for anything else."""
    document = _object(line)
    method, parameters = document.get("method"), document.get("parameters", {})
    if set(document) - {"method", "parameters"}:
        raise ProtocolError("a request has the fields method and parameters alone")
    kind = KINDS.get(method) if isinstance(method, str) else None
    if kind is None:
        raise ProtocolError(f"there is no method {str(method)[:40]!r}", hint=f"methods are {', '.join(KINDS)}")
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        # Values stay out of the message: it may end in a log.
        fields = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProtocolError(f"{kind.method}: {fields[:500]}") from None


def decode_reply(line: bytes, kind: type[ReplyT]) -> ReplyT:
    """The reply on LINE; raises the error it carries, or ProtocolError when it is no reply of KIND."""
    document = _object(line)
    name, parameters = document.get("error"), document.get("parameters")
    if isinstance(name, str):
        raise from_wire(name, parameters if isinstance(parameters, dict) else {})
    try:
        return kind.model_validate(document.get("result"))
    except ValidationError as error:
        raise ProtocolError(f"the answer is no {kind.__name__}: {error}") from error


def _line(document: dict[str, JsonValue]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, JsonValue]:
    if len(line) > FRAME_BYTES:
        raise ProtocolError(f"a frame may have {FRAME_BYTES} bytes")
    try:
        document: JsonValue = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("a frame is one JSON object on one line") from None
    if not isinstance(document, dict):
        raise ProtocolError("a frame is one JSON object on one line")
    return document
