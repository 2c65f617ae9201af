"""Requests and replies that cross a Unix socket: JSON, one object a line, a request at most 64 KiB.

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
"""Longest request, its newline included: what a server reads from callers it does not trust."""
REPLY_BYTES = 1_048_576
"""Longest reply: the status of 512 slots has some 160 kB."""

Address = IPv4Address | IPv6Address


class Message(BaseModel):
    """A frozen value of the wire; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Request(Message):
    """What a client asks for; each kind has a method name of its own."""

    method: ClassVar[str]
    takes_key: ClassVar[bool] = False
    """It takes a key out of the pool: limited by a rate of its own."""
    routine: ClassVar[bool] = False
    """It is asked often and changes nothing: no line in an ordinary log."""


class Connect(Request):
    """Give the calling worker a tunnel over a fresh key; its connection then holds the lease.

    `resume` names a lease the worker still held when netctl went away; it is given back unchanged
    if it is still the worker's, and refused with TunnelLost otherwise.
    """

    method: ClassVar[str] = "connect"
    takes_key: ClassVar[bool] = True
    resume: str | None = Field(default=None, max_length=64)


class Rotate(Request):
    """Swap the calling worker's tunnel to another key; only on the connection that holds the lease."""

    method: ClassVar[str] = "rotate"
    takes_key: ClassVar[bool] = True


class Proved(Request):
    """The worker's first proof of a key whose exit address is not known yet."""

    method: ClassVar[str] = "proved"
    address: Address


class Status(Request):
    """Slots and keys: all of them for root and operators, the caller's own slot for a worker."""

    method: ClassVar[str] = "status"
    routine: ClassVar[bool] = True


class Tunnel(Message):
    """A tunnel in use: the answer to connect and rotate, given only after the handshake."""

    interface: str
    exit_server: str
    """Name of the key's server: the endpoint's host in the key's .conf file."""
    exit_address: Address | None
    """Address the world should see; None until the key's first proof."""
    exit_address_v6: IPv6Address | None = None
    """The same over IPv6, where the key's file names it."""
    carries_ipv6: bool = False
    """Without it the worker's IPv6 is blocked."""
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
    """`sealed`, `connecting`, `connected`, `orphaned` (netctl restarted, its worker not back yet) or `repairing`
    (its device is being replaced: nothing passes)."""
    exit_server: str | None
    exit_address: Address | None
    lease: str | None
    generation: int
    since: AwareDatetime
    received_bytes: int
    sent_bytes: int
    last_handshake: AwareDatetime | None
    counted_at: AwareDatetime | None
    """When the three above were read; every 5 s while something passes, every 30 s at rest."""


class PoolStatus(Message):
    """The key pool in numbers; never a key."""

    keys: int
    leased: int
    cooling: int
    free: int
    servers: int
    servers_aside: tuple[str, ...] = ()
    """Servers that have not answered lately: chosen last, until their time is over."""


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
    document = _object(line, FRAME_BYTES)
    if document.keys() - {"method", "parameters"}:
        raise ProtocolError("a request has the fields method and parameters alone")
    method, parameters = document.get("method"), document.get("parameters", {})
    kind = KINDS.get(method) if isinstance(method, str) else None
    if kind is None:
        raise ProtocolError(f"there is no method {ascii(method)[:40]}", hint=f"methods are {', '.join(KINDS)}")
    if not isinstance(parameters, dict):
        raise ProtocolError(f"{method}: parameters is an object")
    # Looked at before the validation, which says something about each: 9,000 of them take 0.1 s.
    unknown = sorted(parameters.keys() - kind.model_fields.keys())
    if unknown:
        raise ProtocolError(f"{method}: there is no field {ascii(unknown[0])[:40]}")
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        # Values stay out of the message: it may end in a log.
        fields = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProtocolError(f"{method}: {fields[:500]}") from None


def decode_reply(line: bytes, kind: type[ReplyT]) -> ReplyT:
    """The reply on LINE; raises the error it carries, or ProtocolError when it is no reply of KIND."""
    document = _object(line, REPLY_BYTES)
    name, parameters = document.get("error"), document.get("parameters")
    if isinstance(name, str):
        raise from_wire(name, parameters if isinstance(parameters, dict) else {})
    try:
        return kind.model_validate(document.get("result"))
    except ValidationError as error:
        raise ProtocolError(f"the answer is no {kind.__name__}: {error}") from error


def _line(document: dict[str, JsonValue]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair has no UTF-8; backslashreplace writes it as JSON does.
    return text.encode(errors="backslashreplace") + b"\n"


def _object(line: bytes, most_bytes: int) -> dict[str, JsonValue]:
    if len(line) > most_bytes:
        raise ProtocolError(f"a frame may have {most_bytes} bytes")
    try:
        document: JsonValue = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ProtocolError("a frame is one JSON object on one line") from None
    if not isinstance(document, dict):
        raise ProtocolError("a frame is one JSON object on one line")
    return document


def _refuse(constant: str) -> JsonValue:
    """NaN and Infinity are Python's, not JSON's."""
    raise ValueError(constant)
