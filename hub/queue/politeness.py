"""Computes when a site may be asked again. Pure; the transaction that holds the site's row calls it.

A site is asked no sooner than its interval after the start of the previous run, by no more runs at once than allowed.
After `limited` the interval doubles, and the next run waits for a rest; good runs undo that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fleet.outcomes import Ending
from hub.queue.values import Priority

SLOWEST = 64.0
LEAST_REST_SECONDS = 30.0
"""After `limited`, if the site has not said how long."""
LONGEST_DELAY_SECONDS = 3600.0
"""Of a Crawl-delay: a worker reports it, and no worker may stop a site for all others."""
LONGEST_REST_SECONDS = 86_400.0
"""The longest rest that a site may ask for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site's row; the defaults are those of a new one."""

    name: str
    interval_seconds: float
    slowed: float = 1.0
    most: int
    room: int
    running: int = 0
    polite_at: float = 0.0
    paused: bool = False
    priority: int = Priority.LOW
    wake_at: float | None = None
    crawl_delay: float | None = None
    """The Crawl-delay of its robots.txt, in seconds."""

    @property
    def pace_seconds(self) -> float:
        """From the start of one run to that of the next."""
        interval = max(self.interval_seconds, self.crawl_delay or 0.0)
        return interval if self.slowed <= 1 else max(interval, 1.0) * self.slowed

    @property
    def at_once(self) -> int:
        """How many runs may begin now."""
        free = max(0, self.most - self.running)
        return min(free, 1) if self.pace_seconds else free


@dataclass(frozen=True, slots=True)
class Head:
    """The first of a site's ready jobs of one priority and exit."""

    due_at: float
    priority: int


def begun(site: Site, count: int, now: float) -> Site:
    """SITE after COUNT of its jobs have begun."""
    polite_at = max(site.polite_at, now + site.pace_seconds)
    return replace(site, running=site.running + count, polite_at=polite_at)


def over(site: Site, ends: Sequence[tuple[Ending, float | None]], now: float) -> Site:
    """SITE after runs of it have ended, each with its outcome and the rest that the site asked for, in seconds."""
    for outcome, wait_seconds in ends:
        running = site.running - 1
        site = replace(site, running=running, room=max(site.most, running))
        if outcome == "limited":
            slowed = min(site.slowed * 2, SLOWEST)
            rest = LEAST_REST_SECONDS * slowed / 2 if wait_seconds is None else wait_seconds
            rest = min(max(rest, site.interval_seconds), LONGEST_REST_SECONDS)
            site = replace(site, slowed=slowed, polite_at=max(site.polite_at, now + rest))
        elif outcome in ("good", "empty", "absent"):
            site = replace(site, slowed=max(1.0, site.slowed / 2))
    return site


def asked(site: Site, crawl_delay: float | None, now: float) -> Site:
    """SITE after a run; without a Crawl-delay nothing changes, because not every run reads robots.txt."""
    if crawl_delay is None:
        return site
    wanted = min(max(crawl_delay, 0.0), LONGEST_DELAY_SECONDS)
    if wanted > (site.crawl_delay or 0.0):
        site = replace(site, polite_at=max(site.polite_at, now + wanted))
    return replace(site, crawl_delay=wanted or None)


def set_back(site: Site, seconds: float, now: float) -> Site:
    """SITE after the clock went back by SECONDS to NOW: the remaining rest stays the same."""
    return replace(site, polite_at=site.polite_at - seconds) if site.polite_at > now else site


def alarm(site: Site, heads: Iterable[Head]) -> Site:
    """SITE with the wake-up time for HEADS, the first jobs of all its groups."""
    found = list(heads)
    if not found or site.paused or site.running >= site.most:
        return replace(site, wake_at=None, priority=Priority.LOW)
    wake_at = max(site.polite_at, min(head.due_at for head in found))
    return replace(site, wake_at=wake_at, priority=min(head.priority for head in found if head.due_at <= wake_at))


def earlier(site: Site, new: Iterable[Head]) -> Site:
    """SITE with its wake-up time after NEW jobs were added."""
    there = [] if site.wake_at is None else [Head(site.wake_at, site.priority)]
    return alarm(site, [*there, *new])
