"""The measured matrix: rows are probes, columns are states, a cell is leaks out of attempts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.leak.probes import LATE, LOOPBACK, ROWS
from tests.leak.states import STATES

ALL_ROWS = (*ROWS, *LATE.values(), LOOPBACK)


@dataclass(frozen=True, kw_only=True)
class Column:
    """The results of one state."""

    tries: Counter[str]
    leaks: Counter[str]
    control: Counter[str]
    """How many tries of a UID that is no worker's were seen."""


COLUMNS: dict[tuple[str, str], Column] = {}
"""By isolation and state."""


def table() -> list[str]:
    """The lines of all results, one table for each isolation."""
    lines: list[str] = []
    for isolation in sorted({isolation for isolation, _ in COLUMNS}, reverse=True):
        columns = {state: COLUMNS[isolation, state] for state in STATES if (isolation, state) in COLUMNS}
        lines += [f"leaks of tries, isolation {isolation}; control: what was seen of a UID that is no worker's", ""]
        lines += [f"| probe | {' | '.join(columns)} | control |", "|---" * (len(columns) + 2) + "|"]
        for row in ALL_ROWS:
            cells = [f"{one.leaks[row]}/{one.tries[row]}" if one.tries[row] else "-" for one in columns.values()]
            control = min(one.control[row] for one in columns.values())
            lines.append(f"| {row} | {' | '.join(cells)} | {control} at least |")
        lines.append("")
    return lines
