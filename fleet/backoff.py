"""The wait after repeated failures: it doubles with each, with random jitter."""

from __future__ import annotations

import random


def back_off(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """Seconds to wait after FAILURES failures in a row (at least 1)."""
    longest = min(first_seconds * 2.0 ** min(failures - 1, 60), longest_seconds)
    # Half of it is random, so that clients that failed together do not all retry at the same time.
    return longest * (0.5 + random.random() / 2)  # noqa: S311 - no secret
