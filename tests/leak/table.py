"""The matrix as it was measured: rows are probes, columns are states, a cell is leaks of tries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.leak.probes import LATE, LOOPBACK, ROWS
from tests.leak.states import STATES

ALL_ROWS = (*ROWS, *LATE.values(), LOOPBACK)


@dataclass(frozen=True, kw_only=True)
class Column:
    """What came of one state."""

    tries: Counter[str]
    leaks: Counter[str]
    control: Counter[str]
    """How many tries of a UID that is no worker's were seen."""


_seen: dict[tuple[str, str], Column] = {}


def add(isolation: str, state: str, column: Column) -> None:
    """Remember one."""
    _seen[isolation, state] = column


def table() -> list[str]:
    """Everything there is, one table for each isolation."""
    lines: list[str] = []
    for isolation in sorted({isolation for isolation, _ in _seen}, reverse=True):
        columns = {state: _seen[isolation, state] for state in STATES if (isolation, state) in _seen}
        lines += [f"leaks of tries, isolation {isolation}; control: what was seen of a UID that is no worker's", ""]
        lines += [f"| probe | {' | '.join(columns)} | control |", "|---" * (len(columns) + 2) + "|"]
        for row in ALL_ROWS:
            cells = [_cell(column, row) for column in columns.values()]
            control = min(column.control[row] for column in columns.values())
            lines.append(f"| {row} | {' | '.join(cells)} | {control} at least |")
        lines.append("")
    return lines


def _cell(column: Column, row: str) -> str:
    return f"{column.leaks[row]}/{column.tries[row]}" if column.tries[row] else "-"
