"""Reads an answer of the key service by the JSON pointers of the settings. Pure; netctl judges the key.

No word of an answer that could be a key enters a message.
"""

from __future__ import annotations

import json

from pydantic import JsonValue

from fleet import visible
from fleet.errors import Unanswered
from fleet.outside.calls import ANSWER_BYTES, Answer
from fleet.outside.pointers import found
from fleet.settings.keys import KeyServiceSettings
from fleet.sockets.keyservice_api import Allocated

_LONGEST_WORDS = 200
_LONGEST_BACK = 4096
_LONGEST_WORD = 30
"""Letters of a word of a reason: a key is longer."""


def document(answer: Answer, settings: KeyServiceSettings) -> dict[str, JsonValue]:
    """The object in ANSWER; raises Unanswered if it is not one, or reports a failure."""
    if not answer.whole:
        raise Unanswered(f"the answer has more than {ANSWER_BYTES} bytes")
    try:
        said = answer.json()
    except ValueError:
        raise Unanswered("the answer is not JSON") from None
    if not isinstance(said, dict):
        raise Unanswered("the answer is not a JSON object")
    if found(said, settings.fields.success) not in (True, None):
        raise Unanswered(f"it refused: {_reason(found(said, settings.fields.error))}")
    return said


def allocated(answer: Answer, settings: KeyServiceSettings) -> Allocated:
    """The key in ANSWER; raises Unanswered, with the pointer that finds nothing or no text."""
    said, fields = document(answer, settings), settings.fields
    back = {name: found(said, pointer) for name, pointer in settings.send_back.items()}
    if missing := [settings.send_back[name] for name, value in back.items() if value is None]:
        raise Unanswered(f"the answer has nothing at {missing[0]!r}, which must be sent back")
    if len(json.dumps(back)) > _LONGEST_BACK:
        raise Unanswered(f"what must be sent back has more than {_LONGEST_BACK} characters")
    if fields.config is not None:
        return Allocated(config=_text(said, fields.config), public_key=_any(said, fields.public_key), back=back)
    return Allocated(
        server=_text(said, fields.server),
        port=_any(said, fields.port),
        server_key=_text(said, fields.server_key),
        private_key=_text(said, fields.private_key),
        public_key=_text(said, fields.public_key),
        address=_text(said, fields.address),
        back=back,
    )


def _text(said: JsonValue, pointer: str) -> str:
    value = found(said, pointer)
    if not isinstance(value, str) or not value:
        raise Unanswered(f"the answer has no text at {pointer!r}")
    return value


def _any(said: JsonValue, pointer: str) -> str | None:
    """Text or a number, such as a port; None if there is nothing."""
    value = found(said, pointer)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unanswered(f"the answer has neither text nor a number at {pointer!r}")
    return str(value)


def _reason(value: JsonValue) -> str:
    if not isinstance(value, str):
        return "it does not say why"
    words = (word if len(word) <= _LONGEST_WORD else "..." for word in visible.line(value)[:_LONGEST_WORDS].split())
    return " ".join(words) or "it does not say why"
