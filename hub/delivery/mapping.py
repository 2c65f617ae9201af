"""Builds requests to other servers and reads their answers: the mapping of `[hub.source]` and `[hub.targets]`. Pure."""

from __future__ import annotations

import json
from typing import Any

from pydantic import JsonValue

from fleet.outside.calls import ANSWER_BYTES, Answer, Later
from fleet.outside.pointers import found, text
from fleet.settings.source import FormSettings, ReplySettings
from hub.delivery.pictures import kind

_LONGEST_ADDRESS = 4000


def parts(form: FormSettings, values: JsonValue, picture: tuple[str, bytes] | None) -> list[tuple[str, Any]]:
    """The parts of a FORM: its fields from VALUES, and the PICTURE (name, content) if there is one."""
    fields: list[tuple[str, Any]] = [(name, (None, text(found(values, at)))) for name, at in form.fields.items()]
    return fields if picture is None else [*fields, (form.file, (*picture, kind(picture[0])))]


def document(answer: Answer, reply: ReplySettings) -> JsonValue:
    """The JSON of an ANSWER that REPLY does not call a failure; raises Later."""
    body = answer.body
    if not answer.whole:
        raise Later(f"answered with more than {ANSWER_BYTES >> 10} KiB")
    try:
        said = answer.json()
        json.dumps(said, allow_nan=False)
    except ValueError:
        raise Later(f"answered with something that is not JSON: {body[:100]!r}") from None
    refuse_failure(said, reply)
    return said


def refuse_failure(said: JsonValue, reply: ReplySettings) -> None:
    """Raise Later if SAID, an answer's JSON, reports a failure."""
    word = found(said, reply.success)
    if reply.success_is is not None:
        failed = (type(word), word) != (type(reply.success_is), reply.success_is)
    else:
        failed = bool(reply.success) and word is False
    if failed:
        raise Later(f"answered that it failed: {text(said)[:300]!r}")


def address(said: JsonValue, pointer: str) -> str:
    """The address at POINTER in what a server SAID; raises Later."""
    there = found(said, pointer)
    if not isinstance(there, str) or not there or len(there) > _LONGEST_ADDRESS or not there.isprintable():
        raise Later(f"the answer to a picture has no address at {pointer}")
    return there
