"""Whether a tunnel is alive, and what to do when it is not: pure functions of what was counted.

Passive first: a tunnel that sends and hears back is left alone, and one that sends nothing is not asked. Only
one that sends and hears nothing is probed; an old handshake alone is no failure.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

LOOK_SECONDS = 5.0
"""How often the counters of tunnels in use are read, and how long one may send without hearing anything."""
PROBE_SECONDS = 3.0
"""A quiet tunnel is set up anew, with the same key and server, this often."""
DEAD_SECONDS = 15.0
"""A tunnel that has sent and heard nothing for so long is given up."""
KEEPALIVE_BYTES = 32
"""A keepalive has no answer: an empty data message (the WireGuard paper, 5.4.6)."""
FIRST_SECONDS, LONGEST_SECONDS, JITTER = 10.0, 600.0, 0.2
ALL_EVERY = 6
"""Every so many looks all links count as moving, so that a device that hangs while idle is found as well."""


class Verdict(enum.Enum):
    """What a look at a tunnel in use says."""

    FINE = "fine"
    QUIET = "quiet"
    DEAD = "dead"


@dataclass(slots=True, kw_only=True)
class Pulse:
    """One tunnel's counters over time. Times are monotonic, in seconds."""

    keepalive_seconds: int
    quiet_since: float | None = None
    """When it was first seen to have sent something that nobody has answered since."""
    _last: tuple[float, int, int] | None = None

    @property
    def received_bytes(self) -> int | None:
        """What the latest reading said; None before the first."""
        return self._last[2] if self._last else None

    def look(self, now: float, sent_bytes: int, received_bytes: int) -> Verdict:
        """The verdict over one more reading of the counters."""
        before, self._last = self._last, (now, sent_bytes, received_bytes)
        if before is None or received_bytes != before[2] or sent_bytes < before[1]:
            self.quiet_since = None
        elif self.quiet_since is None and sent_bytes - before[1] > self._unanswered(now - before[0]):
            self.quiet_since = now
        return self.verdict(now)

    def verdict(self, now: float) -> Verdict:
        """What the readings so far say at NOW."""
        if self.quiet_since is None:
            return Verdict.FINE
        return Verdict.QUIET if self.left_seconds(now) > 0 else Verdict.DEAD

    def left_seconds(self, now: float) -> float:
        """How long a quiet tunnel has left before it is dead. It was quiet for a look already when that was seen."""
        return (self.quiet_since or now) + DEAD_SECONDS - LOOK_SECONDS - now

    def revived(self) -> None:
        """A handshake has been answered; the counters begin anew with it."""
        self.quiet_since, self._last = None, None

    def _unanswered(self, seconds: float) -> int:
        """Bytes that may be sent within SECONDS without an answer: keepalives."""
        return KEEPALIVE_BYTES * (1 + int(seconds / self.keepalive_seconds))


class Step(enum.Enum):
    """What is tried next when a handshake has failed. Setting the same key up anew has been tried by then."""

    OTHER_KEY = "another key"
    OTHER_SERVER = "another server"
    NEW_DEVICE = "a new device"


def next_step(failed: Sequence[str], working: frozenset[str]) -> Step:
    """FAILED: the servers that did not answer this device in a row; WORKING: those that answer other slots.

    A server that answers others has refused this key, and another one may do. Where two servers are silent and one
    of them answers others, or three are, it is the device that is deaf.
    """
    distinct = set(failed)
    if len(distinct) >= 3 or (len(distinct) == 2 and distinct & working):
        return Step.NEW_DEVICE
    return Step.OTHER_KEY if failed and failed[-1] in working else Step.OTHER_SERVER


@dataclass(slots=True, kw_only=True)
class Aside:
    """Servers or keys that have failed lately, each put aside for a time that grows, and that ends by itself."""

    random: Callable[[], float] = random.random
    first_seconds: float = FIRST_SECONDS
    longest_seconds: float = LONGEST_SECONDS
    _failures: dict[Hashable, tuple[int, float]] = field(default_factory=dict)

    def failed(self, name: Hashable, now: float) -> float:
        """Put NAME aside once more; for how many seconds."""
        count = self._failures.get(name, (0, 0.0))[0] + 1
        seconds = min(self.first_seconds * 2.0 ** min(count - 1, 10), self.longest_seconds)
        seconds *= 1 + JITTER * (2 * self.random() - 1)
        self._failures[name] = (count, now + seconds)
        return seconds

    def worked(self, name: Hashable) -> None:
        """NAME is as good as new."""
        self._failures.pop(name, None)

    def until(self, now: float) -> dict[Hashable, float]:
        """What is put aside at NOW, and until when."""
        return {name: until for name, (_, until) in self._failures.items() if until > now}


def counters(text: str) -> dict[str, str]:
    """Each link's counters, as text, by name (proc_pid_net(5), dev: two lines of headings)."""
    lines = (line.partition(":") for line in text.splitlines()[2:])
    return {name.strip(): values for name, _, values in lines}


class LinkCounters:
    """Which links carry something: one read for all of them, so that tunnels at rest cost nothing.

    A device is asked for its own counters only when its link's have changed since the look before, or did at that look
    (one that hangs takes nothing from its link any more), and now and then all the same.
    """

    def __init__(self, read: Callable[[], str]) -> None:
        """READ returns /proc/net/dev of every namespace."""
        self._read = read
        self._last: dict[str, str] = {}
        self._moved: frozenset[str] = frozenset()
        self._looks = 0

    def there(self, name: str) -> bool:
        """Whether the last look saw a link of that NAME."""
        return name in self._last

    def look(self) -> frozenset[str]:
        """The links to ask; those that were not there at the look before among them."""
        found = counters(self._read())
        before, self._moved = self._moved, frozenset(name for name in found if found[name] != self._last.get(name))
        self._last, self._looks = found, self._looks + 1
        return frozenset(found) if self._looks % ALL_EVERY == 0 else self._moved | before
