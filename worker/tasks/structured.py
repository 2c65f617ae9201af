"""Reads a page's structured data (schema.org, JSON-LD)."""

from __future__ import annotations

import json
from typing import Any

from worker.tasks.numerals import NoValue

_OF_A_REFERENCE = {"@type", "@id", "@context", "name", "url"}
"""An object with no other keys is only a reference."""


def parsed(texts: list[str]) -> list[object]:
    """The scripts that are JSON, parsed."""
    made: list[object] = []
    for text in texts:
        try:
            made.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return made


def only(data: Any, path: str) -> str | None:
    """The one value at PATH in DATA; None when there is none; `Product.offers.price` begins with a type.

    Raises NoValue for different values, and when one of several objects of that type has none: it may be the right one.
    """
    first, *rest = path.split(".")
    typed = first[:1].isupper()
    places = _whole([one for one in _objects(data) if first in _types(one)]) if typed else [*_objects(data)]
    found = [_below(one, rest if typed else [first, *rest]) for one in places]
    values = list(dict.fromkeys(value for one in found for value in one))
    if len(values) > 1:
        raise NoValue(f"{path} stands there more than once: {', '.join(values[:3])[:80]}")
    if typed and values and not all(found):
        raise NoValue(f"there are {len(found)} of {first}, and not all of them have {path}")
    return values[0] if values else None


def _below(place: dict[str, Any], keys: list[str]) -> list[str]:
    found: list[Any] = [place]
    for key in keys:
        below = (one.get(key) for one in found if isinstance(one, dict))
        found = [part for one in below for part in (one if isinstance(one, list) else [one])]
    return [str(one) for one in found if isinstance(one, str | int | float) and not isinstance(one, bool)]


def _whole(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """PLACES, with those of the same @id merged, and without mere references."""
    by_name: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(places):
        if name := one.get("@id"):
            by_name[str(name)] = {**by_name.get(str(name), {}), **one}
        else:
            by_name[f" {number}"] = one
    whole = [one for one in by_name.values() if set(one) - _OF_A_REFERENCE]
    return whole or [*by_name.values()]


def _objects(data: Any) -> list[dict[str, Any]]:
    if isinstance(data, list):
        return [found for one in data for found in _objects(one)]
    if not isinstance(data, dict):
        return []
    return [data, *(found for one in data.values() if isinstance(one, dict | list) for found in _objects(one))]


def _types(one: dict[str, Any]) -> list[str]:
    kind = one.get("@type")
    return [str(part).rpartition("/")[2] for part in (kind if isinstance(kind, list) else [kind])]
