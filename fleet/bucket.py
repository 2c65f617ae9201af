"""A token bucket; pure, the clock (seconds of any steady one) is handed in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """RATE tokens a second, of which at most BURST are saved up."""

    rate: float
    burst: int
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def wait(self, now: float) -> float:
        """Seconds from NOW until a token is there; 0 when there is one."""
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)
        # Seconds are no exact numbers: what is nearly a token is one.
        return 0.0 if self._tokens > 1 - 1e-6 else (1 - self._tokens) / self.rate

    def take(self) -> None:
        """Take a token, or one ahead: who comes later waits longer, so those who wait keep their order."""
        self._tokens -= 1
