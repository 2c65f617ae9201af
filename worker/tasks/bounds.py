"""Bounds the size of an answer, because a page decides how many texts there are and how long they are."""

from __future__ import annotations

import json

ANSWER_BYTES = 3 << 20
"""The largest answer, as JSON."""
TEXT_CHARACTERS = 100_000
"""The longest text."""
MOST_ENTRIES = 10_000
"""The most entries of one list or object."""
_DEPTH = 300
"""The deepest level that is checked; readers could not read deeper ones. A list that contains itself ends here too."""


def bounded(answer: dict[object, object]) -> tuple[object, bool]:
    """ANSWER within these bounds, and whether something was cut; values that are no JSON are kept as they are."""
    walk = _Walk()
    kept = walk.kept(answer, _DEPTH)
    return (kept, True) if walk.cut else (answer, False)


class _Walk:
    def __init__(self) -> None:
        self._left = ANSWER_BYTES - 1024
        self.cut = False

    def kept(self, value: object, depth: int) -> object:
        """VALUE, or the part of it that there is room for."""
        if isinstance(value, str):
            return self._text(value)
        if depth and isinstance(value, (list, dict)):
            return self._entries(value, depth - 1)
        self._left -= len(repr(value)) if isinstance(value, (int, float)) else 4
        return value

    def _text(self, text: str) -> str:
        kept = text[:TEXT_CHARACTERS]
        while (size := len(json.dumps(kept, ensure_ascii=False).encode(errors="replace"))) > max(self._left, 2):
            kept = kept[: len(kept) // 2]
        self._left -= size
        self.cut |= len(kept) < len(text)
        return kept

    def _entries(self, value: list[object] | dict[object, object], depth: int) -> object:
        made_list: list[object] = []
        made_dict: dict[object, object] = {}
        self._left -= 2
        for entry in value:
            if self._left <= 0 or len(made_list) + len(made_dict) == MOST_ENTRIES:
                self.cut = True
                break
            self._left -= 2
            if isinstance(value, dict):
                name = self.kept(entry, 0)
                made_dict[name] = self.kept(value[entry], depth)
            else:
                made_list.append(self.kept(entry, depth))
        return made_dict if isinstance(value, dict) else made_list
