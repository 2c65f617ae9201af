"""Numbers over time as the points of lines; the template draws them, with a table beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from fleet.outside.pointers import number

WIDTH, HEIGHT = 600, 160
MOST_LINES = 6
"""Each has its own dashes, because colour alone is not accessible to all."""
Points = Sequence[tuple[float, float]]
"""Moments and values, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series over time."""

    name: str
    points: str
    """The points of an SVG polyline in a box of WIDTH by HEIGHT."""
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Lines in one box."""

    name: str
    lines: tuple[Line, ...]
    least: float
    most: float
    begins: float
    ends: float


def chart(name: str, many: Mapping[str, Points]) -> Chart | None:
    """The first MOST_LINES of MANY, by name; None if there is nothing to draw."""
    drawn = {one: points for one, points in list(many.items())[:MOST_LINES] if points}
    if sum(map(len, drawn.values())) < 2:
        return None
    moments = [at for points in drawn.values() for at, _ in points]
    values = [value for points in drawn.values() for _, value in points]
    begins, ends, least, most = min(moments), max(moments), min(values), max(values)

    def placed(at: float, value: float) -> tuple[float, float]:
        wide, high = (ends - begins) or 1.0, (most - least) or 1.0
        return round(4 + (WIDTH - 8) * (at - begins) / wide, 1), round(
            HEIGHT - 8 - (HEIGHT - 16) * (value - least) / high, 1
        )

    lines = []
    for one, points in drawn.items():
        dots = tuple(placed(*point) for point in points)
        lines.append(Line(name=one, points=" ".join(f"{x:g},{y:g}" for x, y in dots), dots=dots))
    return Chart(name=name, lines=tuple(lines), least=least, most=most, begins=begins, ends=ends)


def numbers(answer: Mapping[str, JsonValue] | None) -> dict[str, float]:
    """By name, the numbers of ANSWER: its own fields, and those of its table `fields`."""
    found: dict[str, float] = {}
    inner = (answer or {}).get("fields")
    for fields in (answer or {}, inner if isinstance(inner, dict) else {}):
        for name, value in fields.items():
            if (it := number(value)) is not None:
                found[name] = it
    return found
