"""Counts of the queue, and the state of its repeating jobs; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from fleet.db import Database
from fleet.outcomes import OK
from hub.queue.repeat import Cron, Interval, Repeat
from hub.queue.schema import LEASED, READY, alerts, jobs, outbox, repeats, runs, sites

MOST_WATCHES = 1000
LOOKED_BACK = 50
"""The number of a watch's last runs in which its last good one is looked for."""
_LATELY = sa.and_(runs.c.job == jobs.c.id, runs.c.fence > jobs.c.fence - LOOKED_BACK)
_COLUMNS = ("id", "key", "site", "task", "state", "fence", "scheduled_at", "interval_seconds", "cron", "zone")
_WATCHES = (
    sa.select(
        *(jobs.c[name] for name in _COLUMNS),
        sites.c.paused,
        sa.select(sa.func.max(runs.c.ended_at)).where(_LATELY).correlate(jobs).scalar_subquery().label("last_at"),
        sa.select(sa.func.max(runs.c.ended_at))
        .where(_LATELY, runs.c.outcome.in_(OK))
        .correlate(jobs)
        .scalar_subquery()
        .label("last_good_at"),
    )
    .join(sites, sites.c.name == jobs.c.site)
    .where(repeats)
    .order_by(jobs.c.id)
    .limit(MOST_WATCHES)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A job that repeats."""

    job: int
    key: str | None
    site: str
    task: str
    state: str
    fence: int
    """How often it was leased."""
    scheduled_at: float
    repeat: Repeat
    paused: bool
    """Whether its site is paused."""
    last_at: float | None
    last_good_at: float | None
    """Among its last LOOKED_BACK runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in the queue."""

    ready: int
    leased: int
    aside: int
    unsent: int
    """Deliveries, of all hosts."""
    unsent_since: float | None
    """The time of the oldest one."""
    unsent_aside: int
    alerts: int
    """Those that last."""


def watches(database: Database) -> list[Watch]:
    """At most MOST_WATCHES repeating jobs, by number."""

    def watch(row: Any) -> Watch:
        kept = {name: value for name, value in row._mapping.items() if name not in ("id", "interval_seconds", "cron")}
        zone, seconds = kept.pop("zone"), row.interval_seconds
        repeat = Cron(row.cron, zone) if seconds is None else Interval(seconds)
        return Watch(job=row.id, repeat=repeat, **kept)

    return database.run(lambda db: [watch(row) for row in db.execute(_WATCHES)], reading=True)


def backlog(database: Database) -> Backlog:
    """The counts of the whole queue."""

    def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
        return sa.select(sa.func.count()).select_from(table).where(*where).scalar_subquery()

    sent = outbox.c.aside == sa.false()
    query = sa.select(
        count(jobs).label("all"),
        count(jobs, jobs.c.state == READY).label("ready"),
        count(jobs, jobs.c.state == LEASED).label("leased"),
        count(outbox, sent).label("unsent"),
        sa.select(sa.func.min(outbox.c.since)).where(sent).scalar_subquery().label("unsent_since"),
        count(outbox, ~sent).label("unsent_aside"),
        count(alerts, alerts.c.raised == sa.true()).label("alerts"),
    )
    found = dict(database.run(lambda db: db.execute(query).one(), reading=True)._mapping)
    return Backlog(aside=found.pop("all") - found["ready"] - found["leased"], **found)
