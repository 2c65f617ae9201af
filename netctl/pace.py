"""How often to repair: a few at once, then rarely, so that nobody is fought for ever. Pure; the clock is handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Bucket:
    """BURST repairs at once, and another one each EVERY_SECONDS."""

    burst: int = 10
    every_seconds: float = 5.0
    _tokens: float = math.inf
    _at: float = 0.0

    def take(self, now: float) -> float:
        """0 when a repair may go on at NOW (seconds of any steady clock); else the seconds until one may."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) / self.every_seconds)
        self._at = now
        # A clock's seconds are no exact numbers: what is nearly a token is one.
        if self._tokens < 1 - 1e-9:
            return (1 - self._tokens) * self.every_seconds
        self._tokens -= 1
        return 0.0
