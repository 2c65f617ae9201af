"""Whether work is being done, and what blocks it, in one word. Pure.

A watch is late when two of its times have passed since its last good result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hub.queue.politeness import Site
from hub.queue.watching import Watch

PATIENCE_SECONDS = 60.0
"""The time that a run and the delivery of its result may take."""
QUEUE_SECONDS = 60.0
"""A job that has been ready for this time shows that there are too few workers."""
TRIED = 2
"""More runs than this without a good one make a new watch late."""
Pressure = Literal["", "database", "disk", "workers", "queue"]
PRESSURES: tuple[Pressure, ...] = ("database", "disk", "workers", "queue")


def state_of(watch: Watch, now: float) -> Literal["fresh", "late", "paused"]:
    """The state of WATCH. A watch of a paused site is not late."""
    if watch.paused:
        return "paused"
    if watch.last_good_at is None and watch.fence > TRIED:
        return "late"
    since = watch.scheduled_at if watch.last_good_at is None else watch.last_good_at
    try:
        first = watch.repeat.after(since, since)
        return "late" if now > watch.repeat.after(first, first) + PATIENCE_SECONDS else "fresh"
    except ValueError:  # the repetition ends after one more time
        return "fresh"


def could_begin_since(sites: Iterable[Site]) -> float | None:
    """Since when a job can begin, or from when on; None: there is no job."""
    return min((site.wake_at for site in sites if site.wake_at is not None), default=None)


def pressure(*, full: bool, away: bool, since: float | None, now: float) -> Pressure:
    """What blocks work: a FULL disk, all workers AWAY, or too few workers for jobs that are ready SINCE then."""
    if full:
        return "disk"
    if away:
        return "workers"
    return "queue" if since is not None and now - since > QUEUE_SECONDS else ""
