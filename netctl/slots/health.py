"""Whether a tunnel is alive, and what to do when it is not: pure functions of its counters.

Passive first: a tunnel that sends and receives is left alone, and one that sends nothing is not probed. Only a tunnel
that sends but receives nothing is probed; an old handshake alone is no failure.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

LOOK_SECONDS = 5.0
"""How often the counters of tunnels in use are read, and how long a tunnel may send without receiving anything."""
PROBE_SECONDS = 3.0
"""How often a quiet tunnel starts a new session with the same key and server."""
DEAD_SECONDS = 15.0
"""A tunnel that has sent but received nothing for this long is given up."""
KEEPALIVE_BYTES = 32
"""The size of a keepalive, which has no answer: an empty data message (the WireGuard paper, 5.4.6)."""
FIRST_SECONDS, LONGEST_SECONDS, JITTER = 10.0, 600.0, 0.2
ALL_EVERY = 6
"""At every ALL_EVERY-th look all links count as moving, so that a device that hangs while idle is found as well."""


class Verdict(enum.Enum):
    """The result of a look at a tunnel in use."""

    FINE = "fine"
    QUIET = "quiet"
    DEAD = "dead"


@dataclass(slots=True, kw_only=True)
class Pulse:
    """One tunnel's counters over time. Times are monotonic, in seconds."""

    keepalive_seconds: int
    quiet_since: float | None = None
    """When it was first seen to have sent something without an answer since."""
    _last: tuple[float, int, int] | None = None

    @property
    def received_bytes(self) -> int | None:
        """The value of the latest reading; None before the first."""
        return self._last[2] if self._last else None

    def look(self, now: float, sent_bytes: int, received_bytes: int) -> Verdict:
        """The verdict after one more reading of the counters."""
        before, self._last = self._last, (now, sent_bytes, received_bytes)
        if before is None or received_bytes != before[2] or sent_bytes < before[1]:
            self.quiet_since = None
        elif self.quiet_since is None and sent_bytes - before[1] > self._unanswered(now - before[0]):
            self.quiet_since = now
        return self.verdict(now)

    def verdict(self, now: float) -> Verdict:
        """The verdict at NOW from the readings so far."""
        if self.quiet_since is None:
            return Verdict.FINE
        return Verdict.QUIET if self.left_seconds(now) > 0 else Verdict.DEAD

    def left_seconds(self, now: float) -> float:
        """How long a quiet tunnel has until it is dead. It was quiet for up to LOOK_SECONDS before that was seen."""
        return (self.quiet_since or now) + DEAD_SECONDS - LOOK_SECONDS - now

    def revived(self) -> None:
        """A handshake has been answered: start again with new counters."""
        self.quiet_since, self._last = None, None

    def _unanswered(self, seconds: float) -> int:
        """Bytes that may be sent within SECONDS without an answer: keepalives."""
        return KEEPALIVE_BYTES * (1 + int(seconds / self.keepalive_seconds))


class Step(enum.Enum):
    """What to try next after a failed handshake. A new session with the same key has been tried before."""

    OTHER_KEY = "another key"
    OTHER_SERVER = "another server"
    NEW_DEVICE = "a new device"


def next_step(failed: Sequence[str], working: frozenset[str]) -> Step:
    """FAILED: the servers that did not answer this device in a row; WORKING: those that answer other slots.

    A server that answers other slots has refused this key, so another key may work. If two servers are silent and one
    of them answers other slots, or if three are silent, the device is at fault.
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
        """Put NAME aside once more; returns for how many seconds."""
        count = self._failures.get(name, (0, 0.0))[0] + 1
        seconds = min(self.first_seconds * 2.0 ** min(count - 1, 10), self.longest_seconds)
        seconds *= 1 + JITTER * (2 * self.random() - 1)
        self._failures[name] = (count, now + seconds)
        return seconds

    def worked(self, name: Hashable) -> None:
        """Forget the failures of NAME."""
        self._failures.pop(name, None)

    def until(self, now: float) -> dict[Hashable, float]:
        """What is put aside at NOW, and until when."""
        return {name: until for name, (_, until) in self._failures.items() if until > now}


def counters(text: str) -> dict[str, str]:
    """Each link's counters, as text, by name (proc_pid_net(5), dev: two header lines)."""
    lines = (line.partition(":") for line in text.splitlines()[2:])
    return {name.strip(): values for name, _, values in lines}


class LinkCounters:
    """Finds the links with traffic by one read for all of them, so that idle tunnels cost nothing.

    A device is asked for its own counters only when its link's counters have changed at this look or the one before
    (the link of a device that hangs stops counting), and at every ALL_EVERY-th look in any case.
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
        """The links whose devices are to be asked; includes links that are new since the last look."""
        found = counters(self._read())
        before, self._moved = self._moved, frozenset(name for name in found if found[name] != self._last.get(name))
        self._last, self._looks = found, self._looks + 1
        return frozenset(found) if self._looks % ALL_EVERY == 0 else self._moved | before
