"""One item among many: by several of its fields. All of them together count most, then two, then one."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from pydantic import JsonValue

from worker.tasks.items import Item
from worker.tasks.numerals import UNSEEN

Wanted = dict[str, str]
"""By the name of an item's field, its text."""


@dataclass(frozen=True, slots=True)
class Match:
    """An item and which of the wanted fields it has."""

    item: Item
    matched: dict[str, JsonValue]
    """The wanted ones, null for what did not match."""

    @property
    def strength(self) -> int:
        return sum(one is not None for one in self.matched.values())


def match(item: Item, wanted: Wanted) -> Match | None:
    """How ITEM matches, None when nothing of it does; an advertisement without a rank never does."""
    if item.rank is None:
        return None
    found: dict[str, JsonValue] = {
        name: text if _same(item.fields.get(name), text) else None for name, text in wanted.items()
    }
    made = Match(item, found)
    return made if made.strength else None


def better(found: Match | None, known: Match | None) -> bool:
    """Whether FOUND is to be taken in place of the one KNOWN before it; the first of equals stays."""
    return found is not None and (known is None or found.strength > known.strength)


def _same(value: JsonValue, text: str) -> bool:
    if isinstance(value, dict):  # a price
        value = value.get("text")
    return value is not None and folded(str(value)) == folded(text)


def folded(text: str) -> str:
    """TEXT as it is compared: what looks alike is alike, however it is composed or broken."""
    return " ".join(UNSEEN.sub("", unicodedata.normalize("NFKC", text)).split()).casefold()
