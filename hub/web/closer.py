"""Values for the detail pages: a watch by its exits, a worker, a site, the exits, a moment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from fleet.db import Database
from fleet.outcomes import OK
from hub.queue import reading, rollups
from hub.web.cards import Card, Run
from hub.web.charts import Points, numbers

LOOKED_AT = 200
"""The most runs of a watch that are read."""
MOST_EXITS = 12
MOST_NUMBERS = 6
MARGIN_SECONDS = 30.0
HOURS = 48
MOST_EVENTS = 500


class Seen(BaseModel, frozen=True):
    """A watch as seen from one exit: its newest run there."""

    exit: str
    run: Run
    numbers: Mapping[str, float]
    picture: str | None


class Watched(BaseModel, frozen=True):
    """A job with its runs, by exit."""

    job: int
    key: str | None
    site: str
    task: str
    state: str
    """`done` when it is no longer in the queue."""
    due_at: float | None
    exits: tuple[Seen, ...]
    """The newest first."""
    series: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]]
    """By name of the number, then by exit: (time, value) pairs, the oldest first."""
    runs: tuple[Run, ...]


class One(BaseModel, frozen=True):
    """A worker or a site."""

    card: Card
    facts: Mapping[str, str | float | bool | None]
    runs: tuple[Run, ...]
    """Its runs among the newest runs of the fleet."""
    hours: tuple[rollups.Count, ...] = ()
    """For a site: counts of all runs of the last HOURS."""

    @property
    def lines(self) -> dict[str, Points]:
        """Runs of a site by hour and outcome."""
        return {
            outcome: [(one.begins_at, one.runs) for one in self.hours if one.outcome == outcome]
            for outcome in dict.fromkeys(one.outcome for one in self.hours)
        }

    @property
    def seconds(self) -> Points:
        """How long each run took."""
        return [(run.ended_at, run.ended_at - run.began_at) for run in reversed(self.runs) if run.began_at]


class Exit(BaseModel, frozen=True):
    """A VPN server by the results of its runs."""

    name: str
    runs: int
    good: int
    refused: int
    """Refused or limited by the sites."""
    failed: int
    """Failed or lost."""
    workers: int
    last_at: float


class Exits(BaseModel, frozen=True):
    """All exits, the worst first."""

    exits: tuple[Exit, ...]


class Event(BaseModel, frozen=True):
    """Something that a worker's run reports."""

    at: float | None
    """None: at an unknown time while it ran."""
    worker: str | None
    run: str
    what: str
    """`begun`, an outcome, `failure` or `note`."""
    words: str


class Moment(BaseModel, frozen=True):
    """What all workers did while a run lasted."""

    run: Run
    events: tuple[Event, ...]


def hours(database: Database, site: str, now: float) -> tuple[rollups.Count, ...]:
    """Counts of SITE for the last HOURS."""
    since = now - 3600 * HOURS
    return tuple(database.run(lambda db: rollups.counts(db, "hour", since, site), reading=True))


def watched(database: Database, job: int) -> Watched | None:
    """JOB with its newest runs; None if neither the job nor a run of it exists."""
    there, found = reading.job(database, job), reading.runs_with_answers(database, job, LOOKED_AT)
    if there is None and not found:
        return None
    of = there or found[0]
    newest: dict[str, Mapping[str, Any]] = {}
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for one in found:
        server = one["exit"] or "-"
        newest.setdefault(server, one)
        for name, value in numbers(one["answer"]).items():
            series.setdefault(name, {}).setdefault(server, []).insert(0, (one["ended_at"], value))
    return Watched(
        job=job,
        **{name: of[name] for name in ("key", "site", "task")},
        state=there["state"] if there else "done",
        due_at=there["due_at"] if there else None,
        exits=tuple(_seen(database, *each) for each in list(newest.items())[:MOST_EXITS]),
        series={name: {server: tuple(line) for server, line in lines.items()} for name, lines in _first(series)},
        runs=tuple(_brief(one) for one in found),
    )


def _seen(database: Database, server: str, one: Mapping[str, Any]) -> Seen:
    pictures = reading.pictures_of(database, one["job"], one["fence"])
    picture = pictures[0]["name"] if pictures else None
    return Seen(exit=server, run=_brief(one), numbers=numbers(one["answer"]), picture=picture)


def _first(series: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The MOST_NUMBERS numbers that most runs have."""
    return sorted(series.items(), key=lambda each: -sum(map(len, each[1].values())))[:MOST_NUMBERS]


def _brief(one: Mapping[str, Any]) -> Run:
    return Run.model_validate({**one, "error": (one["error"] or "")[:200] or None})


def by_exit(runs: Iterable[Run]) -> tuple[Exit, ...]:
    """RUNS by exit, the worst first."""
    groups: dict[str, list[Run]] = {}
    for one in runs:
        if one.exit:
            groups.setdefault(one.exit, []).append(one)

    def count(many: list[Run], *outcomes: str) -> int:
        return sum(one.outcome in outcomes for one in many)

    found = [
        Exit(
            name=name,
            runs=len(many),
            good=count(many, *OK),
            refused=count(many, "refused", "limited"),
            failed=count(many, "failed", "lost"),
            workers=len({one.worker for one in many}),
            last_at=max(one.ended_at for one in many),
        )
        for name, many in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.good / one.runs, one.name)))


def moment(database: Database, job: int, fence: int) -> Moment | None:
    """What all workers did around a run, in order of time."""
    run = next(iter(reading.runs_until(database, job, fence, 1)), None)
    if run is None or run["fence"] != fence:
        return None
    begins, ends = (run["began_at"] or run["ended_at"]) - MARGIN_SECONDS, run["ended_at"] + MARGIN_SECONDS
    events = [event for one in reading.runs_around(database, begins, ends) for event in _events(one)]
    events.sort(key=lambda event: (math.inf if event.at is None else event.at, event.run))
    return Moment(run=_brief(run), events=tuple(events[:MOST_EVENTS]))


def _events(one: Mapping[str, Any]) -> Iterable[Event]:
    common = {"worker": one["worker"], "run": f"{one['job']}.{one['fence']}"}
    details = one["details"] or {}
    if one["began_at"]:
        yield Event(at=one["began_at"], what="begun", words=f"{one['site']} {one['task']}", **common)
    for each in _texts(details.get("failures"), "name", "stage", "message"):
        yield Event(at=one["ended_at"], what="failure", words=each, **common)
    for each in _texts(details.get("notes")):
        yield Event(at=one["ended_at"], what="note", words=each, **common)
    yield Event(at=one["ended_at"], what=one["outcome"], words=one["error"] or "", **common)


def _texts(found: object, *names: str) -> Iterable[str]:
    """The entries of a worker's list as lines: a text itself, or the values of NAMES in a table."""
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield ": ".join(str(one[name]) for name in names if name in one)[:1000]
        elif isinstance(one, str):
            yield one[:1000]
