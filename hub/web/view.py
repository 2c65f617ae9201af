"""The content of the page, as values: the same for people, programs and live viewers.

It reads the newest NEWEST runs, so its cost does not depend on the length of the history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, JsonValue

from fleet.db import Database
from fleet.given_up import All
from hub.declared import Declared
from hub.delivery.sending import Do
from hub.queue import locks, reading, watching
from hub.queue.politeness import Site
from hub.queue.store import Store
from hub.queue.values import Finished
from hub.service import Seat
from hub.web.cards import TICKS, Fleet, Run, are_away, fleet_of, site_state
from hub.web.health import Pressure, could_begin_since, pressure

NEWEST = 1000
FRESH_SECONDS = 1.0
COUNTED_SECONDS = 10.0
"""The greatest age of counts and of the list of repeating jobs."""


@dataclass(frozen=True)
class Sight:
    """The overview, and what programs ask for in addition."""

    fleet: Fleet
    runs: tuple[Run, ...]
    """The newest runs, the newest first."""
    sites: tuple[Site, ...]
    backlog: watching.Backlog
    site_states: tuple[str, ...]
    since: float | None
    """When the next job can begin, past or future."""
    pressure: Pressure


class Whole(BaseModel, frozen=True):
    """A run with everything that is known about it."""

    run: Run
    arguments: Mapping[str, JsonValue]
    answer: Mapping[str, JsonValue] | None
    details: Mapping[str, JsonValue] | None
    pictures: tuple[str, ...]
    pictures_before: tuple[str, ...]
    """The pictures of the previous run."""
    before: tuple[Run, ...]
    """Earlier runs of the same job, the newest first."""
    changed: Mapping[str, tuple[JsonValue, JsonValue]]
    """What differs in the answer from the previous run: the value then, and now."""


@dataclass(frozen=True)
class Queue:
    """What the hub provides for its page."""

    store: Store
    do: Do
    """Runs work in the store's thread: what waits there delays the workers."""
    seats: Mapping[int, Seat]
    is_full: Callable[[], bool]
    away: Callable[[], All]
    ends: list[Callable[[str, Finished], None]]
    """Called for each end, with the worker's name."""
    declared: Declared


class View:
    """Reads DATABASE in the thread of READ, not in the queue's, so that no request delays a worker."""

    def __init__(self, database: Database, read: Do, queue: Queue) -> None:
        self.database, self.read, self.queue = database, read, queue
        self._seen: Sight | None = None
        self._until = 0.0
        self._counted: tuple[list[watching.Watch], watching.Backlog] | None = None
        self._counted_until = 0.0

    async def fleet(self) -> Fleet:
        """The overview. Raises DatabaseFailed."""
        return (await self.sight()).fleet

    def forget(self) -> None:
        """Read the database again at the next request, because something has changed."""
        self._until = self._counted_until = 0.0

    async def sight(self) -> Sight:
        """The overview and more; requests at the same time share one reading. Raises DatabaseFailed."""
        if self._seen is None or time.monotonic() > self._until:
            self._until = time.monotonic() + FRESH_SECONDS
            runs = await self.read(lambda: newest(self.database, NEWEST))
            sites = await self.read(lambda: self.database.run(locks.every, reading=True))
            watches, backlog = await self._count()
            full = self.queue.is_full()
            fleet = fleet_of(self.queue.seats.values(), watches, sites, runs, full=full, away=self.queue.away())
            since, away = could_begin_since(sites), are_away(fleet.workers)
            states = tuple(site_state(site, fleet.now) for site in sites)
            word = pressure(full=full, away=away, since=since, now=fleet.now)
            self._seen = Sight(fleet, tuple(runs), tuple(sites), backlog, states, since, word)
        return self._seen

    async def _count(self) -> tuple[list[watching.Watch], watching.Backlog]:
        if self._counted is None or time.monotonic() > self._counted_until:
            self._counted_until = time.monotonic() + COUNTED_SECONDS
            self._counted = await self.read(lambda: (watching.watches(self.database), watching.backlog(self.database)))
        return self._counted


def newest(database: Database, count: int, **which: object) -> list[Run]:
    """At most COUNT runs, the newest first; WHICH as hub.queue.reading.page_of_runs."""
    return [Run.model_validate(one) for one in reading.page_of_runs(database, count, brief=True, **which)]  # type: ignore[arg-type]


def whole(database: Database, job: int, fence: int) -> Whole | None:
    """That run, with the job's runs before it."""
    found = reading.runs_until(database, job, fence, 2)
    if not found or found[0]["fence"] != fence:
        return None
    one, last = found[0], found[1]["answer"] if len(found) > 1 else None
    before = reading.runs_until(database, job, fence - 1, TICKS, brief=True)
    then, now = last or {}, one["answer"] or {}
    differ = {} if last is None else {key: (then.get(key), now.get(key)) for key in {**then, **now}}
    return Whole(
        run=Run.model_validate(one),
        arguments=one["arguments"],
        answer=one["answer"],
        details=one["details"],
        pictures=_pictures(database, job, fence),
        pictures_before=_pictures(database, job, found[1]["fence"]) if len(found) > 1 else (),
        before=tuple(map(Run.model_validate, before)),
        changed={key: pair for key, pair in differ.items() if pair[0] != pair[1]},
    )


def _pictures(database: Database, job: int, fence: int) -> tuple[str, ...]:
    return tuple(each["name"] for each in reading.pictures_of(database, job, fence))
