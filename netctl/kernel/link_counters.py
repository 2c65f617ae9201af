"""Which links carry something: one read for all of them, so that tunnels at rest cost nothing.

A device is asked for its own counters only when its link's have changed since the look before, or did at that look
(one that hangs takes nothing from its link any more), and now and then all the same.
"""

from __future__ import annotations

from collections.abc import Callable

ALL_EVERY = 6
"""Every so many looks all links count as moving, so that a device that hangs while idle is found as well."""


def counters(text: str) -> dict[str, str]:
    """Each link's counters, as text, by name (proc_pid_net(5), dev: two lines of headings)."""
    lines = (line.partition(":") for line in text.splitlines()[2:])
    return {name.strip(): values for name, _, values in lines}


class LinkCounters:
    """What the last look saw."""

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
