"""How long to wait after failures in a row: twice as long after each. Pure, but for chance."""

from __future__ import annotations

import random


def back_off(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """The wait after the last of FAILURES, counted from one."""
    longest = min(first_seconds * 2.0 ** min(failures - 1, 60), longest_seconds)
    # Half of it by chance: what failed together does not come back together, nor all at once to who is back.
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - no secret
