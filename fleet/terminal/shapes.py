"""Outcomes and levels by their shape: a colour alone says nothing to many."""

from __future__ import annotations

from typing import Final

SHAPES: Final = {
    "good": "●",
    "empty": "○",
    "refused": "⊘",
    "limited": "◐",
    "absent": "∅",
    "failed": "✖",
    "lost": "?",
    "cancelled": "–",
}
LEVELS: Final = {"wrong": "▲", "watch": "◆", "fine": "●"}
