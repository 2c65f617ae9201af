"""Finds one item among many by several of its fields. The item that matches the most fields wins."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from pydantic import JsonValue

from worker.tasks.items import Item
from worker.tasks.numerals import UNSEEN

Wanted = dict[str, str]
"""The wanted text of each field, by name."""


@dataclass(frozen=True, slots=True)
class Match:
    """An item and the wanted fields that it matches."""

    item: Item
    matched: dict[str, JsonValue]
    """The text of each wanted field; null: it did not match."""

    @property
    def strength(self) -> int:
        return sum(one is not None for one in self.matched.values())


def match(item: Item, wanted: Wanted) -> Match | None:
    """How ITEM matches; None when no field does, or when it is an advertisement without a rank."""
    if item.rank is None:
        return None
    found: dict[str, JsonValue] = {
        name: text if _same(item.fields.get(name), text) else None for name, text in wanted.items()
    }
    made = Match(item, found)
    return made if made.strength else None


def better(found: Match | None, known: Match | None) -> bool:
    """Whether FOUND is a better match than KNOWN; of equal ones the first is kept."""
    return found is not None and (known is None or found.strength > known.strength)


def _same(value: JsonValue, text: str) -> bool:
    if isinstance(value, dict):  # a price
        value = value.get("text")
    return value is not None and folded(str(value)) == folded(text)


def folded(text: str) -> str:
    """TEXT for comparison: Unicode composition, blanks, line breaks and case make no difference."""
    return " ".join(UNSEEN.sub("", unicodedata.normalize("NFKC", text)).split()).casefold()
