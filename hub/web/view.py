"""What the page shows, as values: the same for people, programs and whoever watches it live.

Its cost is that of the newest NEWEST runs, however many there have been: nothing here counts through history.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, JsonValue

from fleet.db import Database
from fleet.outcomes import OK
from hub.queue import locks, reading, watching
from hub.queue.politeness import Site
from hub.queue.store import Store
from hub.queue.values import Finished
from hub.sending import Do
from hub.service import Seat
from hub.web.health import Pressure, could_begin_since, pressure, state_of

NEWEST = 1000
TICKS = 20
MOST_SITES = 200
FRESH_SECONDS = 1.0
COUNTED_SECONDS = 10.0
"""What is counted, and which jobs repeat, is so old at most."""
IN_A_ROW = 3
"""So many bad ends one after the other are trouble."""
_WORKERS_FAULT = ("failed", "lost")
_SITES_WORD = ("failed", "refused", "limited", "absent")
Level = Literal["wrong", "watch", "fine"]
Trouble = Literal["", "disk", "workers", "results", "watches"]
_ORDER: tuple[Level, ...] = ("wrong", "watch", "fine")


class Run(BaseModel, frozen=True):
    """An end, without what was found."""

    job: int
    fence: int
    key: str | None
    site: str
    task: str
    worker: str | None
    exit: str | None
    began_at: float | None
    ended_at: float
    outcome: str
    error: str | None
    """Its beginning."""


class Card(BaseModel, frozen=True):
    """A worker, a watch or a site at a glance."""

    id: str
    name: str
    state: str
    level: Level
    detail: str
    last_at: float | None
    """When its last run ended, of those that are looked at."""
    ticks: tuple[Run, ...]
    """The newest runs, the oldest of them first."""


class Fleet(BaseModel, frozen=True):
    """The first look. Cards that have trouble come first."""

    now: float
    last_at: float | None
    last_good_at: float | None
    trouble: Trouble
    """One word for what stops all of it, or for watches that are late; "": nothing."""
    workers: tuple[Card, ...]
    watches: tuple[Card, ...]
    sites: tuple[Card, ...]


@dataclass(frozen=True)
class Sight:
    """The first look, and what programs want to know beside it."""

    fleet: Fleet
    backlog: watching.Backlog
    site_states: tuple[str, ...]
    since: float | None
    """When the next job can begin, or could."""
    pressure: Pressure


class Whole(BaseModel, frozen=True):
    """A run with all that is known of it."""

    run: Run
    arguments: Mapping[str, JsonValue]
    answer: Mapping[str, JsonValue] | None
    details: Mapping[str, JsonValue] | None
    pictures: tuple[str, ...]
    before: tuple[Run, ...]
    """Earlier runs of the same job, the newest first."""
    changed: Mapping[str, tuple[JsonValue, JsonValue]]
    """What of the answer differs from that of the run before: then, and now."""


@dataclass(frozen=True)
class Queue:
    """What the hub's own life lends to its page."""

    store: Store
    do: Do
    """Where the store is used: what waits there holds up the workers."""
    seats: Mapping[int, Seat]
    is_full: Callable[[], bool]
    ends: list[Callable[[str, Finished], None]]
    """Who is told of each end: the worker's name, and what came."""


class View:
    """Looks at DATABASE where READ does it, which is not where the queue works: no question holds a worker up."""

    def __init__(self, database: Database, read: Do, queue: Queue) -> None:
        self.database, self.read, self.queue = database, read, queue
        self._seen: Sight | None = None
        self._until = 0.0
        self._counted: tuple[list[watching.Watch], watching.Backlog] | None = None
        self._counted_until = 0.0

    async def fleet(self) -> Fleet:
        """The first look. Raises DatabaseFailed."""
        return (await self.sight()).fleet

    async def sight(self) -> Sight:
        """The same with all that is known beside it; many who ask at one time cost one. Raises DatabaseFailed."""
        if self._seen is None or time.monotonic() > self._until:
            self._until = time.monotonic() + FRESH_SECONDS
            runs = await self.read(lambda: newest(self.database, NEWEST))
            sites = await self.read(lambda: self.database.run(locks.every, reading=True))
            watches, backlog = await self._count()
            full = self.queue.is_full()
            fleet = _fleet(self.queue.seats.values(), watches, sites, runs, full=full)
            since, away = could_begin_since(sites), _are_away(fleet.workers)
            states = tuple(_site_state(site, fleet.now) for site in sites)
            word = pressure(full=full, away=away, since=since, now=fleet.now)
            self._seen = Sight(fleet, backlog, states, since, word)
        return self._seen

    async def _count(self) -> tuple[list[watching.Watch], watching.Backlog]:
        if self._counted is None or time.monotonic() > self._counted_until:
            self._counted_until = time.monotonic() + COUNTED_SECONDS
            self._counted = await self.read(lambda: (watching.watches(self.database), watching.backlog(self.database)))
        return self._counted

    async def run(self, job: int, fence: int) -> Whole | None:
        """That run, with the job's runs before it."""
        return await self.read(lambda: _whole(self.database, job, fence))


def newest(database: Database, count: int, **which: object) -> list[Run]:
    """At most COUNT runs, the newest first; WHICH as hub.queue.reading.page_of_runs."""
    return [Run.model_validate(one) for one in reading.page_of_runs(database, count, brief=True, **which)]  # type: ignore[arg-type]


def _whole(database: Database, job: int, fence: int) -> Whole | None:
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
        pictures=tuple(each["name"] for each in reading.pictures_of(database, job, fence)),
        before=tuple(map(Run.model_validate, before)),
        changed={key: pair for key, pair in differ.items() if pair[0] != pair[1]},
    )


def _fleet(
    seats: Iterable[Seat], watches: Iterable[watching.Watch], sites: Iterable[Site], runs: list[Run], *, full: bool
) -> Fleet:
    now = time.time()
    of_worker, of_site, of_job = _grouped(runs, "worker"), _grouped(runs, "site"), _grouped(runs, "job")
    workers = [_worker(seat, of_worker.get(seat.worker.name, ())) for seat in seats]
    looked_at = [_watch(watch, of_job.get(watch.job, ()), now) for watch in watches]
    places = [_site(site, of_site.get(site.name, ()), now) for site in sites]
    good = next((one.ended_at for one in runs if one.outcome in OK), None)
    late = any(card.state == "late" for card in looked_at)
    return Fleet(
        now=now,
        last_at=runs[0].ended_at if runs else None,
        last_good_at=good,
        trouble=_trouble(workers, runs, full=full) or ("watches" if late else ""),
        workers=tuple(sorted(workers, key=_rank)),
        watches=tuple(sorted(looked_at, key=_rank)),
        sites=tuple(sorted(places, key=_rank)[:MOST_SITES]),
    )


def _trouble(workers: Collection[Card], runs: list[Run], *, full: bool) -> Trouble:
    if full:
        return "disk"
    if _are_away(workers):
        return "workers"
    last = runs[: max(IN_A_ROW, len(workers))]
    return "results" if len(last) >= IN_A_ROW and not any(one.outcome in OK for one in last) else ""


def _are_away(workers: Collection[Card]) -> bool:
    """Whether there are workers, and all of them are away."""
    return bool(workers) and all(card.state == "away" for card in workers)


def _grouped(runs: list[Run], name: str) -> dict[Any, tuple[Run, ...]]:
    """The newest TICKS of each, the oldest first."""
    found: dict[Any, list[Run]] = {}
    for one in runs:
        found.setdefault(getattr(one, name), []).append(one)
    return {key: tuple(reversed(many[:TICKS])) for key, many in found.items()}


def _worker(seat: Seat, ticks: tuple[Run, ...]) -> Card:
    state = "busy"
    if seat.held:
        state = "working"
    elif seat.connection is None:
        state = "away"
    elif seat.rests_until > time.monotonic():
        state = "resting"
    elif seat.waiting:
        state = "waiting"
    wrong = state == "away" or _in_a_row(ticks, _WORKERS_FAULT)
    level: Level = "wrong" if wrong else "watch" if state == "resting" else "fine"
    detail = f"{seat.held.job}.{seat.held.fence}" if seat.held else ""
    name = seat.worker.name
    return Card(id=f"w-{name}", name=name, state=state, level=level, detail=detail, last_at=_last(ticks), ticks=ticks)


def _watch(watch: watching.Watch, ticks: tuple[Run, ...], now: float) -> Card:
    good = [one.ended_at for one in ticks if one.outcome in OK][-1:]
    known = [at for at in (watch.last_good_at, *good) if at is not None]
    state = state_of(replace(watch, last_good_at=max(known, default=None)), now)
    level: Level = "wrong" if state == "late" else "watch" if state == "paused" else "fine"
    return Card(
        id=f"j-{watch.job}",
        name=watch.key or f"{watch.site} {watch.task} {watch.job}",
        state=state,
        level=level,
        detail=watch.site,
        last_at=_last(ticks) or watch.last_at,
        ticks=ticks,
    )


def _site(site: Site, ticks: tuple[Run, ...], now: float) -> Card:
    state = _site_state(site, now)
    wrong = _in_a_row(ticks, _SITES_WORD)
    level: Level = "wrong" if wrong else "watch" if state in ("paused", "slowed") else "fine"
    name, detail = site.name, f"{site.running}/{site.most}"
    return Card(id=f"s-{name}", name=name, state=state, level=level, detail=detail, last_at=_last(ticks), ticks=ticks)


def _site_state(site: Site, now: float) -> str:
    slowed = site.slowed > 1 or site.polite_at > now + max(60.0, 2 * site.interval_seconds)
    return "paused" if site.paused else "slowed" if slowed else "running" if site.running else "quiet"


def _last(ticks: tuple[Run, ...]) -> float | None:
    return ticks[-1].ended_at if ticks else None


def _in_a_row(ticks: tuple[Run, ...], words: tuple[str, ...]) -> bool:
    last = ticks[-IN_A_ROW:]
    return len(last) == IN_A_ROW and all(one.outcome in words for one in last)


def _rank(card: Card) -> tuple[int, str]:
    return _ORDER.index(card.level), card.name
