"""Whether work is being done, and what holds it up, in a word. Pure.

A watch is late when two of its times have passed since its last good result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hub.queue.politeness import Site
from hub.queue.watching import Watch

PATIENCE_SECONDS = 60.0
"""That a run may take, and its result on the way."""
QUEUE_SECONDS = 60.0
"""A job that could begin for so long has too few workers."""
TRIED = 2
"""So many runs, and none of them good, are enough to say so."""
Pressure = Literal["", "database", "disk", "workers", "queue"]
PRESSURES: tuple[Pressure, ...] = ("database", "disk", "workers", "queue")


def state_of(watch: Watch, now: float) -> Literal["fresh", "late", "paused"]:
    """How WATCH is doing. What somebody has paused is not late."""
    if watch.paused:
        return "paused"
    if watch.last_good_at is None and watch.fence > TRIED:
        return "late"
    since = watch.scheduled_at if watch.last_good_at is None else watch.last_good_at
    try:
        first = watch.repeat.after(since, since)
        return "late" if now > watch.repeat.after(first, first) + PATIENCE_SECONDS else "fresh"
    except ValueError:  # a time that comes once more, and then never
        return "fresh"


def could_begin_since(sites: Iterable[Site]) -> float | None:
    """Since when, or from when on, a job could begin; None: there is none."""
    return min((site.wake_at for site in sites if site.wake_at is not None), default=None)


def pressure(*, full: bool, away: bool, since: float | None, now: float) -> Pressure:
    """What holds work up: a disk that is FULL, workers that are all AWAY, or too few of them for jobs SINCE then."""
    if full:
        return "disk"
    if away:
        return "workers"
    return "queue" if since is not None and now - since > QUEUE_SECONDS else ""
