"""Answers of a key service: what they hold, and that none of their words is believed or repeated too far."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.errors import Unanswered
from fleet.outside.calls import Answer
from fleet.settings.keys import KeyServiceSettings
from keyservice import answers

PRIVATE = "cHJpdmF0ZXByaXZhdGVwcml2YXRlcHJpdmF0ZXByaXY="
SAID: dict[str, Any] = {
    "success": True,
    "server_address": "203.0.113.11",
    "server_port": 51820,
    "server_public_key": "c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyMTI=",
    "private_key": PRIVATE,
    "public_key": "cHVibGljcHVibGljcHVibGljcHVibGljcHVibGljcHU=",
    "client_address": "10.8.0.2/32",
}


def settings(**values: Any) -> KeyServiceSettings:
    """A service's table, with VALUES."""
    urls = {"allocate": "https://keys.example/allocate", "release": "https://keys.example/release"}
    return KeyServiceSettings.model_validate({**urls, **values})


def answer(said: Any, *, whole: bool = True) -> Answer:
    """An answer that says SAID."""
    return Answer(status=200, body=said if isinstance(said, str) else json.dumps(said), whole=whole)


def test_parts_are_found_by_their_pointers() -> None:
    """Single fields, wherever they stand; a port may be a number; what is to be sent back is kept."""
    found = answers.allocated(answer(SAID), settings())
    assert (found.server, found.port, found.address) == ("203.0.113.11", "51820", "10.8.0.2/32")
    assert found.back == {"public_key": SAID["public_key"]}
    names = ("server", "port", "server_key", "private_key", "public_key", "address")
    deep = {"fields": {name: f"/data/0/{place}" for name, place in zip(names, list(SAID)[1:], strict=True)}}
    deep["send_back"] = {"lease": "/id"}
    other = answers.allocated(answer({"data": [SAID], "id": 7}), settings(**deep))
    assert other == found.model_copy(update={"back": {"lease": 7}})


def test_a_whole_client_file_is_taken_as_it_is() -> None:
    """`config` is what netctl reads as a file; its public key may be beside it."""
    said = {"config": "[Interface]", "public_key": "x"}
    found = answers.allocated(answer(said), settings(fields={"config": "/config"}))
    assert (found.config, found.public_key, found.server) == ("[Interface]", "x", None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("<html>", "the answer is not JSON"),
        ("[" * 40_000, "the answer is not JSON"),
        # The parser takes these, and whoever writes them further down would not.
        *(('{"x":' + "[" * deep + "]" * deep + "}", "the answer is not JSON") for deep in (120, 800)),
        ([SAID], "the answer is not a JSON object"),
        ({**SAID, "success": False, "error": "no key is free"}, "it refused: no key is free"),
        ({**SAID, "success": "no"}, "it refused: it does not say why"),
        ({**SAID, "success": False, "error": f"lost {PRIVATE}"}, "it refused: lost ..."),
        ({**SAID, "success": False, "error": "\x1b[2J gone"}, "it refused: "),
        ({**SAID, "private_key": 5}, "the answer has no text at '/private_key'"),
        ({**SAID, "private_key": [PRIVATE]}, "the answer has no text at '/private_key'"),
        ({**SAID, "server_port": True}, "the answer has neither text nor a number at '/server_port'"),
        ({**SAID, "public_key": None}, "the answer has nothing at '/public_key', which must be sent back"),
        ({**SAID, "public_key": "x" * 5000}, "what must be sent back has more than"),
        ({}, "the answer has nothing at"),
    ],
)
def test_what_is_no_key_has_a_reason_without_one(said: Any, words: str) -> None:
    """One line for each lie; no private key and no control character in it."""
    with pytest.raises(Unanswered) as raised:
        answers.allocated(answer(said), settings())
    assert raised.value.message.startswith(words)
    assert PRIVATE not in raised.value.message and raised.value.message.isprintable()


def test_an_endless_answer_is_none() -> None:
    """What was cut off is not read, whatever its beginning says."""
    with pytest.raises(Unanswered, match="more than 65536 bytes"):
        answers.allocated(answer(SAID, whole=False), settings())


def test_an_answer_that_is_read_can_be_written_anywhere() -> None:
    """What json() gives is never as deep as the stack of whoever writes it down; the parser takes more (control)."""
    deep = "[" * 800 + "]" * 800
    assert json.loads(deep)
    with pytest.raises(ValueError, match="deeper"):
        Answer(status=200, body=deep, whole=True).json()
    assert Answer(status=200, body=deep[701:899], whole=True).json()
