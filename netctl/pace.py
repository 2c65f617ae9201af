"""When to repair: what holds workers back at once, the rest in batches, and nobody is fought for ever.

Pure; the clock (seconds of any steady one) is handed in.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

BATCH_SECONDS = 0.25
"""A firewall's reload or networkd's restart is many notifications; they are answered together."""
BURST, EVERY_SECONDS = 10, 5.0


class Kind(enum.Enum):
    """What may be wrong."""

    RULES = "rules"
    TABLES = "nftables"
    LINKS = "links"
    ADDRESSES = "addresses"
    ROUTES = "routes"
    SYSCTLS = "sysctls"
    LOST = "notifications lost"


URGENT = frozenset({Kind.RULES, Kind.TABLES, Kind.LOST})
"""What the kill switch is made of."""


@dataclass(slots=True, kw_only=True)
class Bucket:
    """BURST repairs at once, and another one each EVERY_SECONDS."""

    burst: int = BURST
    every_seconds: float = EVERY_SECONDS
    _tokens: float = field(default=BURST, init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def wait(self, now: float) -> float:
        """Seconds from NOW until a repair may go on; 0 when it may at once."""
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) / self.every_seconds)
        self._at = max(now, self._at)
        # Seconds are no exact numbers: what is nearly a token is one.
        return 0.0 if self._tokens > 1 - 1e-6 else (1 - self._tokens) * self.every_seconds

    def take(self) -> None:
        """A repair goes on."""
        self._tokens -= 1


class Pace:
    """What has been heard, and when it is time to look."""

    def __init__(self) -> None:
        self._buckets = {kind: Bucket() for kind in Kind}
        self._heard: dict[Kind, float] = {}

    def hear(self, kind: Kind, now: float) -> None:
        """A notification of KIND came at NOW."""
        self._heard.setdefault(kind, now)

    def due(self, now: float) -> float | None:
        """Seconds from NOW until a repair is due; None: nothing was heard."""
        return min((self._wait(kind, now) for kind in self._heard), default=None)

    def take(self, now: float) -> frozenset[Kind]:
        """What was heard, each kind paid for, once one of them is due at NOW; else nothing.

        One look sees, and mends, all that was heard until then.
        """
        if all(self._wait(kind, now) > 0 for kind in self._heard):
            return frozenset()
        found = frozenset(self._heard)
        self._heard.clear()
        for kind in found:
            self._buckets[kind].take()
        return found

    def _wait(self, kind: Kind, now: float) -> float:
        batched = 0.0 if kind in URGENT else self._heard[kind] + BATCH_SECONDS - now
        return max(batched, self._buckets[kind].wait(now))
