"""What a stream has told, and what can be read from it: when it went, how long it did not, and where it came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import Any

STREAK = 10
"""So many exchanges in a row, and the stream goes again."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One exchange of a stream: when, and the address the world saw; None: it failed."""

    began: float
    ended: float
    seen: str | None
    error: str
    tries: int


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lease of a stream: from when it was asked for."""

    lease: str
    exit: str
    asked: float
    answered: float


@dataclass
class Record:
    """Everything a stream said, oldest first. Times are seconds of CLOCK_MONOTONIC."""

    exchanges: list[Exchange] = field(default_factory=list)
    leases: list[Held] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """One line of stream.py."""
        if "exchange" in line:
            seen = line.pop("exchange")
            self.exchanges.append(Exchange(seen=seen, **line))
        elif "exit" in line:
            self.leases.append(Held(**line))
        elif "refused" in line:
            self.refusals.append(line)

    def flows_since(self, moment: float) -> float | None:
        """When the last run of STREAK successes began that lies after MOMENT and lasts until now."""
        streak = [*takewhile(lambda one: one.seen and one.began >= moment, reversed(self.exchanges))]
        return streak[-1].ended if len(streak) >= STREAK else None

    def gap(self, begin: float, end: float) -> float:
        """The longest time in seconds without a success between BEGIN and END."""
        times = [begin, *(one.ended for one in self.exchanges if one.seen and begin <= one.ended <= end), end]
        return max(after - before for before, after in pairwise(times))

    def tries(self, begin: float, end: float) -> int:
        """How often every way past the tunnel was tried between BEGIN and END."""
        counts = [one.tries for one in self.exchanges if begin <= one.ended <= end]
        return counts[-1] - counts[0] if counts else 0

    def wrong_exits(self, begin: float) -> list[str]:
        """Exchanges since BEGIN that came out at an address of no lease held meanwhile."""
        # A lease counts from the request that brought it to the answer of the request that ended it.
        ends = [*(held.answered for held in self.leases[1:]), float("inf")]
        found = []
        for one in self.exchanges:
            meant = {
                held.exit
                for held, end in zip(self.leases, ends, strict=False)
                if held.asked <= one.ended and one.began <= end
            }
            if one.seen is not None and one.began >= begin and one.seen not in meant:
                found.append(f"{one.seen} seen at {one.ended:.3f}, leased were {sorted(meant)}")
        return found
