"""Shapes for outcomes and levels, because many people cannot tell colours apart."""

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
