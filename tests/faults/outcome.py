"""What came of each fault, collected for the table that docs/security.md shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One line of the table; times in seconds."""

    fault: str
    back: float | None
    """Until the slot carried its stream again, counted from the end of the cause (from its begin where it stays)."""
    gap: float
    """The longest time in which the worker concerned got nothing through."""
    neighbour: float
    """The same for its neighbour."""
    leaks: int
    tries: int


_seen: list[Outcome] = []


def add(one: Outcome) -> None:
    """Remember and print one."""
    _seen.append(one)
    print(
        f"fault: {one.fault} back after {_seconds(one.back)} (silent {one.gap:.1f} s, neighbour {one.neighbour:.1f} s)"
    )


def table() -> list[str]:
    """Everything there is, as a table."""
    if not _seen:
        return []
    rows = ["| fault | leak | back after | worker silent | neighbour silent |", "|---|---|---|---|---|"]
    for one in _seen:
        leak = f"{one.leaks} of {one.tries} tries"
        rows.append(f"| {one.fault} | {leak} | {_seconds(one.back)} | {one.gap:.1f} s | {one.neighbour:.1f} s |")
    return rows


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
