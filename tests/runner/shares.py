"""Shares: files that run one after another; all shares take about as long, by what was measured last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DURATIONS = CHECKOUT / "tests/durations.json"
"""Wall seconds of each file of tests, and of each step that is none; `bin/test --record-durations` writes it."""
LEAST_SECONDS = 10.0
"""Most files take less, and tip no share: they are not there."""
UNKNOWN_SECONDS = 2.0
"""What one of these takes, and a file that was never measured."""


def durations() -> dict[str, float]:
    """What was measured last."""
    return {str(name): float(seconds) for name, seconds in json.loads(DURATIONS.read_text()).items()}


def record(measured: Mapping[str, float]) -> None:
    """Write what MEASURED holds in place of what was there; what is short, and a file that is gone, is left out."""
    known = {**durations(), **{name: round(seconds, 1) for name, seconds in measured.items()}}
    there = {name for name in known if "/" not in name or (CHECKOUT / name).exists()}
    kept = {name: known[name] for name in there if known[name] >= LEAST_SECONDS}
    DURATIONS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def expected_seconds(names: Sequence[str], known: Mapping[str, float]) -> float:
    """How long files (or tests of them, FILE::TEST) take one after another."""
    return sum(known.get(name.partition("::")[0], UNKNOWN_SECONDS) for name in names)


def shared(names: Sequence[str], number: int, known: Mapping[str, float]) -> list[list[str]]:
    """NAMES in at most NUMBER shares, the longest dealt first; inside a share the order stays, and none is empty."""
    shares: list[list[str]] = [[] for _ in range(number)]
    for name in sorted(names, key=lambda name: -expected_seconds([name], known)):
        min(shares, key=lambda share: (expected_seconds(share, known), len(share))).append(name)
    return [sorted(share, key=names.index) for share in shares if share]
