"""Draws a row of run outcomes as SVG paths, one per outcome, so a row of any length has few nodes.

A letter per tick would need a node and text layout each, and its look would depend on the machine's fonts.
"""

from __future__ import annotations

from collections.abc import Iterable

CELL = 12
"""Side of each tick's square, in SVG units; the first tick is at 0."""
_RING = "m1.5 6a4.5 4.5 0 0 1 9 0a4.5 4.5 0 0 1-9 0zm1.2 0a3.3 3.3 0 0 0 6.6 0a3.3 3.3 0 0 0-6.6 0z"
# Fill rule nonzero: the ring's inner circle runs the other way, so it stays empty; an overlap stays filled.
_OUTLINES = {
    "good": "m2 6a4 4 0 0 1 8 0a4 4 0 0 1-8 0z",
    "empty": _RING,
    "refused": f"{_RING}m.9 1.7l4.1-4.1l.7.7l-4.1 4.1z",
    "limited": f"{_RING}m3.3 3.3a3.3 3.3 0 0 1 0-6.6z",
    "absent": f"{_RING}m-1.45 4.05l8.8-8.8l.7.7l-8.8 8.8z",
    "failed": "m1.5 3l1.5-1.5l3 3l3-3l1.5 1.5l-3 3l3 3l-1.5 1.5l-3-3l-3 3l-1.5-1.5l3-3z",
    "lost": "m3 1.5h6v5.2h-2.2v1.1h-1.6v-2.7h2.2v-2h-4.4zm2.2 7.5h1.6v1.6h-1.6z",
    "cancelled": "m1.5 5.2h9v1.6h-9z",
}


def drawn(outcomes: Iterable[str]) -> dict[str, str]:
    """By outcome, the path of all its ticks in OUTCOMES; the first tick is leftmost."""
    found: dict[str, list[str]] = {}
    for at, outcome in enumerate(outcomes):
        found.setdefault(outcome, []).append(f"M{CELL * at} 0{_OUTLINES[outcome]}")
    return {outcome: "".join(parts) for outcome, parts in sorted(found.items())}
