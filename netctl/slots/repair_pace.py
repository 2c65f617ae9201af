"""When to repair: what holds workers back at once, the rest in batches, and each kind only so often.

Otherwise netctl and another program could undo one another's changes without end. Pure: the caller passes the time,
in seconds of any steady clock.
"""

from __future__ import annotations

from fleet.callers import Bucket
from netctl.kernel.notifications import Kind

BATCH_SECONDS = 0.25
"""A firewall's reload or networkd's restart is many notifications; they are answered together."""
BURST, EVERY_SECONDS = 10, 5.0
"""So many repairs of a kind at once, and another one each so many seconds."""


URGENT = frozenset({Kind.RULES, Kind.TABLES, Kind.LOST})
"""What the kill switch is made of."""


class RepairPace:
    """What has been heard, and when it is time to look."""

    def __init__(self) -> None:
        self._buckets = {kind: Bucket(1 / EVERY_SECONDS, BURST) for kind in Kind}
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
