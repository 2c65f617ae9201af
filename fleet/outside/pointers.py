"""Reads and builds JSON documents by JSON pointers (RFC 6901), and reads their values. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from pydantic import JsonValue

_NAMED = ("amount", "value")
"""The keys of an object, such as a price, that hold its number."""
_LARGEST = 1e300
"""The largest magnitude; the difference of two such numbers is still finite."""


def found(document: JsonValue, pointer: str) -> JsonValue:
    """The value at POINTER in DOCUMENT; None when there is none."""
    for name in _names(pointer):
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(document):
            document = document[int(name[:9])]
        else:
            return None
    return document


def text(value: JsonValue) -> str:
    """VALUE in words: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: JsonValue) -> float | None:
    """VALUE, or the number in VALUE if it is an object such as a price; None when there is no usable number."""
    if isinstance(value, dict):
        value = next((value[name] for name in _NAMED if name in value), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -_LARGEST <= value <= _LARGEST else None


def built(values: Iterable[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """A document of objects with each value at its pointer or name; raises ValueError when two collide."""
    document: dict[str, JsonValue] = {}
    for pointer, value in values:
        *above, last = _names(pointer if pointer.startswith("/") else f"/{pointer}")
        table = document
        for name in above:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{pointer!r} leads through a value")
            table = inner
        if last in table:
            raise ValueError(f"{pointer!r} is there twice")
        table[last] = value
    return document


def merged(under: Mapping[str, JsonValue], over: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """UNDER, updated by OVER; where both have an object these are merged."""
    both = dict(under)
    for name, value in over.items():
        there = both.get(name)
        both[name] = merged(there, value) if isinstance(there, dict) and isinstance(value, dict) else value
    return both


def _names(pointer: str) -> list[str]:
    return [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
