"""What a page may put into an answer: it chooses how long texts are and how many, and a result has a bound."""

from __future__ import annotations

import json

ANSWER_BYTES = 3 << 20
"""The largest answer, as JSON."""
TEXT_CHARACTERS = 100_000
"""Of one text."""
MOST_ENTRIES = 10_000
"""Of one list or table."""
_DEPTH = 300
"""Below it nothing is looked at: a reader could not read it back anyway. A list in itself is as deep."""


def bounded(answer: dict[object, object]) -> tuple[object, bool]:
    """ANSWER within those bounds, and whether something had to be cut; what is no JSON stays as it is."""
    walk = _Walk()
    kept = walk.kept(answer, _DEPTH)
    return (kept, True) if walk.cut else (answer, False)


class _Walk:
    def __init__(self) -> None:
        self._left = ANSWER_BYTES - 1024
        self.cut = False

    def kept(self, value: object, depth: int) -> object:
        """VALUE, or as much of it as there is room for."""
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
