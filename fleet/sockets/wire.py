"""The frames of a Unix socket: JSON, one object per line; a request has at most 64 KiB.

    {"method": "connect", "parameters": {...}}
    {"result": {...}}   or   {"error": "NoKeyFree", "parameters": {"message", "hint", "data"}}

A worker's request contains no uid, interface, table, path or key: the caller is identified by the socket's
peer credentials (`SO_PEERCRED`), never by the message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from fleet.errors import FleetError, ProtocolError, from_wire

FRAME_BYTES = 65_536
"""The longest request, with its newline, that a server reads from untrusted callers."""
REPLY_BYTES = 1_048_576
"""The longest reply; the status of 512 slots has some 160 kB."""

Address = IPv4Address | IPv6Address


class Message(BaseModel, frozen=True, extra="forbid", defer_build=True):
    """A frozen value that crosses a socket or a pipe; unknown fields are refused."""


class Request(Message):
    """A client's request. Each program's table lists its kinds (fleet.sockets.callers)."""

    method: ClassVar[str]
    """Its name in the frame, and the name of the service's method that answers it."""


class Done(Message):
    """The reply to a request without a result."""


ReplyT = TypeVar("ReplyT", bound=Message)


def encode_request(request: Request) -> bytes:
    return _line({"method": request.method, "parameters": request.model_dump(mode="json")})


def encode_result(reply: Message) -> bytes:
    return _line({"result": reply.model_dump(mode="json")})


def encode_error(error: FleetError) -> bytes:
    """One line: the error's name, message, hint and data."""
    return _line({"error": type(error).__name__, "parameters": error.parameters()})


def decode_request(line: bytes, kinds: Mapping[str, type[Request]]) -> Request:
    """The request in LINE, one of KINDS (by method); raises ProtocolError for anything else."""
    document = _object(line, FRAME_BYTES)
    if document.keys() - {"method", "parameters"}:
        raise ProtocolError("a request has only the fields method and parameters")
    method, parameters = document.get("method"), document.get("parameters", {})
    kind = kinds.get(method) if isinstance(method, str) else None
    if kind is None:
        raise ProtocolError(f"there is no method {ascii(method)[:40]}", hint=f"methods are {', '.join(kinds)}")
    if not isinstance(parameters, dict):
        raise ProtocolError(f"{method}: parameters is an object")
    # Checked before the validation, which reports each unknown field: 9,000 of them take 0.1 s.
    unknown = sorted(parameters.keys() - kind.model_fields.keys())
    if unknown:
        raise ProtocolError(f"{method}: there is no field {ascii(unknown[0])[:40]}")
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        # Values stay out of the message, because it may be logged.
        fields = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ProtocolError(f"{method}: {fields[:500]}") from None


def decode_reply(line: bytes, kind: type[ReplyT]) -> ReplyT:
    """The reply in LINE; raises the error that it contains, or ProtocolError when it is no reply of KIND."""
    document = _object(line, REPLY_BYTES)
    name, parameters = document.get("error"), document.get("parameters")
    if isinstance(name, str):
        raise from_wire(name, parameters if isinstance(parameters, dict) else {})
    try:
        return kind.model_validate(document.get("result"))
    except ValidationError as error:
        raise ProtocolError(f"the answer is no {kind.__name__}: {error}") from error


def decode_error(line: bytes) -> FleetError | None:
    """The error in LINE; None when LINE is anything else, for example a log line."""
    try:
        document = _object(line, REPLY_BYTES)
    except ProtocolError:
        return None
    name, parameters = document.get("error"), document.get("parameters")
    if len(document) != 2 or not isinstance(name, str) or not isinstance(parameters, dict):
        return None
    return from_wire(name, parameters)


def _line(document: dict[str, JsonValue]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate has no UTF-8; backslashreplace writes it as JSON does.
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
