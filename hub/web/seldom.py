"""Limits log lines that any user can cause, so that nobody can fill the disk with them."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


class Seldom:
    """At most one line in SECONDS, which says for how many it stands."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._from, self._since = clock, -SECONDS, 0

    def due(self) -> int:
        """Count one more; returns how many times the line that is now due stands for, 0: none is due."""
        self._since += 1
        if self._clock() < self._from + SECONDS:
            return 0
        self._from, times, self._since = self._clock(), self._since, 0
        return times
