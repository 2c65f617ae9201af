"""Frames that no honest client sends: valid ones mutated, wrong values, broken text; the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

METHODS = ("connect", "rotate", "proved", "start_browser", "status")
VALID = tuple(
    json.dumps(document).encode()
    for document in (
        {"method": "status", "parameters": {}},
        {"method": "status"},
        {"method": "connect", "parameters": {"resume": "0123456789abcdef"}},
        {"method": "rotate", "parameters": {}},
        {"method": "start_browser"},
        {"method": "proved", "parameters": {"address": "203.0.113.11"}},
        {"method": "proved", "parameters": {"address": "2001:db8:2::1001"}},
    )
)
TUNNEL = b'{"method":"connect"}'
TOKENS = (
    *b'null true NaN -Infinity 1e999 -0 0.1e-400 "" {} [] : , { } [ \\ "method" "parameters"'.split(),
    *rb'"resume" "address" "\ud800" "\u0000" "uid":0 "__class__"'.split(),
    *(b"1" * 400, b"9" * 5000, b"\0", b"\xff\xfe", b"\xc0\x80", b"\xf0\x9f\x98\x80", b"\r", b"\t", b"\x1b[2J"),
)
NAMES = ("resume", "address", "uid", "interface", "key", "__class__", "", "\0", "\ud800", "a" * 300, "method")


def frames(seed: int) -> Iterator[bytes]:
    """For ever, without the line break at the end; one in a thousand is longer than any frame may be."""
    dice = random.Random(seed)
    kinds: list[Callable[[random.Random], bytes]] = [_mutated, _typed, _tokens, _bytes, _valid, _nested, _wide, _long]
    weights = [4000, 3000, 1500, 600, 50, 50, 30, 10]
    while True:
        yield dice.choices(kinds, weights)[0](dice)


def _valid(dice: random.Random) -> bytes:
    return TUNNEL if dice.random() < 0.1 else dice.choice(VALID)


def _mutated(dice: random.Random) -> bytes:
    """A valid frame after some cuts, copies, changed bytes and foreign tokens."""
    frame = bytearray(dice.choice(VALID))
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(frame) + 1)
        what = dice.randrange(5)
        if what == 0:
            frame[at:at] = dice.choice(TOKENS)
        elif what == 1:
            del frame[at : at + dice.randint(1, 8)]
        elif what == 2:
            frame[at:at] = frame[at : at + dice.randint(1, 30)]
        elif frame:
            frame[at % len(frame)] = (
                dice.randrange(256) if what == 3 else frame[at % len(frame)] ^ 1 << dice.randrange(8)
            )
    return bytes(frame)


def _typed(dice: random.Random) -> bytes:
    """Well-formed JSON with values of any type anywhere."""
    document: dict[str, Any] = {"method": dice.choice(METHODS) if dice.random() < 0.8 else _value(dice, 2)}
    # Nearly always with a parameter: a connect without one is a tunnel, which takes as long as a hundred frames.
    if dice.random() < 0.98:
        named = {dice.choice(NAMES): _value(dice, 3) for _ in range(dice.randint(1, 3))}
        document["parameters"] = named if dice.random() < 0.8 else _value(dice, 2)
    if dice.random() < 0.1:
        document[dice.choice(NAMES)] = _value(dice, 1)
    return json.dumps(document).encode()


def _value(dice: random.Random, depth: int) -> Any:
    kind = dice.randrange(9 if depth else 7)
    if kind < 2:
        return dice.choice(
            ("", "203.0.113.11", "::", "10.0.0.0/8", "\0", "\ud800", "x" * 65, "connect", "é" * 40, "\x1b[31m")
        )
    if kind == 7:
        return [_value(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    if kind == 8:
        return {dice.choice(NAMES): _value(dice, depth - 1) for _ in range(dice.randint(0, 3))}
    return (None, True, dice.randint(-(2**70), 2**70), dice.random() * 1e308, float("nan"))[kind - 2]


def _tokens(dice: random.Random) -> bytes:
    return b"".join(dice.choices(TOKENS, k=dice.randint(1, 12)))


def _bytes(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randint(1, 200))


def _nested(dice: random.Random) -> bytes:
    depth = dice.randint(100, 20_000)
    opened, closed = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return (
        b'{"method":"connect","parameters":'
        + opened * depth
        + (b"1" + closed * depth + b"}" if dice.random() < 0.5 else b"")
    )


def _wide(dice: random.Random) -> bytes:
    """Thousands of unknown fields."""
    return json.dumps(
        {"method": dice.choice(METHODS), "parameters": {f"f{n}": n for n in range(dice.randint(100, 4000))}}
    ).encode()


def _long(dice: random.Random) -> bytes:
    return b'{"method":"' + b"x" * dice.randint(65_000, 200_000)
