"""The hub's tables, with the invariants that no mistake of the code can break. hub/queue/migrations makes them.

Times are seconds since 1970 by the database's clock. A job belongs to one site, and a transaction that changes a job
locks its site's row: that one lock orders everything (hub.queue.locks).
"""

from __future__ import annotations

import sqlalchemy as sa

from fleet.db import Many

metadata = sa.MetaData()
IDS, NAMES = sa.bindparam("ids", type_=Many(sa.BigInteger)), sa.bindparam("names", type_=Many(sa.Text))
"""Parameters of statements about many rows."""
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")

sites = sa.Table(
    "sites",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("interval_seconds", sa.Double, nullable=False),
    sa.Column("slowed", sa.Double, nullable=False),
    sa.Column("most", sa.Integer, sa.CheckConstraint("most >= 1", name="most_is_some"), nullable=False),
    sa.Column("room", sa.Integer, nullable=False),
    sa.Column("running", sa.Integer, nullable=False),
    sa.Column("polite_at", sa.Double, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("wake_at", sa.Double),
    sa.Column("crawl_delay", sa.Double),
    sa.CheckConstraint("running BETWEEN 0 AND room", name="never_too_many"),
)
"""A site: its lock, its bucket and its wake-up time.

`slowed` multiplies the interval after refusals. `most` is the wanted limit, `room` the one in force: at least as many
as already run. `crawl_delay` comes from its robots.txt. `wake_at` is when a job of it can begin, null without one;
`priority` is that job's.
"""
awake = sa.Index("sites_awake", sites.c.priority, sites.c.wake_at)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("key", sa.Text, unique=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("exit", sa.Text, nullable=False),
    sa.Column("same_exit", sa.Boolean, nullable=False),
    sa.Column("interval_seconds", sa.Double),
    sa.Column("cron", sa.Text),
    sa.Column("zone", sa.Text),
    sa.Column("targets", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("attempts_left", sa.Integer, nullable=False),
    sa.Column("scheduled_at", sa.Double, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("began_at", sa.Double),
    sa.Column("cancelled", sa.Boolean, nullable=False),
    sa.Column("until", sa.Double),
    sa.CheckConstraint("state IN ('ready', 'leased', 'aside')", name="states"),
    sa.CheckConstraint("(state = 'leased') = (host IS NOT NULL)", name="leased_to_a_host"),
    sqlite_autoincrement=True,
)
"""Jobs that can still run. `ready`: from due_at on. `leased`: a host has it. `aside`: its attempts are used up.

`due_at` is when it may run next, `scheduled_at` when that run was due before any failure: the beat of repeating jobs.
`fence` counts its leases. `exit` is the exit it needs, "" any. After `until` its last run is
the answer, whatever its outcome.
"""
READY: sa.ColumnClause[str] = sa.literal_column("'ready'")
LEASED: sa.ColumnClause[str] = sa.literal_column("'leased'")
"""Literals: PostgreSQL uses a partial index for a prepared statement only if the condition is in its text."""
_ready = jobs.c.state == READY
_leased = jobs.c.state == LEASED
waiting = sa.Index(
    "jobs_ready",
    jobs.c.site,
    jobs.c.exit,
    jobs.c.priority,
    jobs.c.due_at,
    jobs.c.id,
    postgresql_where=_ready,
    sqlite_where=_ready,
)
of_hosts = sa.Index("jobs_leased", jobs.c.host, postgresql_where=_leased, sqlite_where=_leased)
repeats = sa.or_(jobs.c.interval_seconds.is_not(None), jobs.c.cron.is_not(None))
of_repeats = sa.Index("jobs_repeat", jobs.c.id, postgresql_where=repeats, sqlite_where=repeats)
of_states = sa.Index("jobs_state", jobs.c.state, jobs.c.id)
of_jobs_sites = sa.Index("jobs_site", jobs.c.site, jobs.c.state, jobs.c.id)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("fence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("arguments", sa.Text, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("exit", sa.Text),
    sa.Column("began_at", sa.Double),
    sa.Column("ended_at", sa.Double, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("answer", sa.Text),
    sa.Column("details", sa.Text),
)
"""Ended runs. The primary key ensures "exactly once": no lease of a job ends twice.

`details` is what the worker reports beside its answer, as JSON: stages, requests, losses, addresses.
"""
ended = sa.Index("runs_ended", runs.c.ended_at)
_NEWEST = (runs.c.ended_at, runs.c.job, runs.c.fence)
of_outcomes = sa.Index("runs_outcome", runs.c.outcome, *_NEWEST)
of_sites = sa.Index("runs_site", runs.c.site, runs.c.outcome, *_NEWEST)
_keyed = runs.c.key.is_not(None)
of_keys = sa.Index("runs_key", runs.c.key, *_NEWEST, postgresql_where=_keyed, sqlite_where=_keyed)

rollups = sa.Table(
    "rollups",
    metadata,
    sa.Column("span_seconds", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("begins_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("outcome", sa.Text, primary_key=True),
    sa.Column("runs", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
)
"""By minute, hour and day, the number and total seconds of a site's runs with an outcome (hub.queue.rollups)."""
of_sites_rollups = sa.Index("rollups_site", rollups.c.site, rollups.c.span_seconds, rollups.c.begins_at)

hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("incarnation", sa.Text),
    sa.Column("until", sa.Double, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
)
"""A host's lease, one for all its jobs. Without an incarnation it is fenced: it was silent beyond its lease."""

pictures = sa.Table(
    "pictures",
    metadata,
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("fence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("address", sa.Text),
)
"""`address` is where the server of a source stores it."""
in_order = (sa.func.length(pictures.c.name), pictures.c.name)
"""The main picture of a run first, then those of the other pages (fleet.result), whose names are longer."""
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
    sa.Column("job", sa.BigInteger, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("aside", sa.Boolean, nullable=False),
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("job", "fence", "target"),
    sqlite_autoincrement=True,
)
"""Deliveries that must still be sent: one that has arrived moves to `delivered` in the same transaction."""
to_send = sa.Index("outbox_due", outbox.c.host, outbox.c.aside, outbox.c.due_at)
delivered = sa.Table(
    "delivered",
    metadata,
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("fence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("answer", sa.Text),
)
"""Deliveries that have arrived, and what the target answered."""

asks = sa.Table(
    "asks", metadata, sa.Column("host", sa.Text, primary_key=True), sa.Column("word", sa.Text, nullable=False)
)
"""By host, the key under which a source was asked for work, until its answer is written."""
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
)
"""Allocations that a source has given to this fleet, and that are not answered yet."""

kept = sa.Table(
    "kept", metadata, sa.Column("step", sa.Text, primary_key=True), sa.Column("until", sa.Double, nullable=False)
)
"""By step of hub.queue.expiry, until which time it has been done."""

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("raised", sa.Boolean, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("told_at", sa.Double, nullable=False),
    sa.Column("told", sa.Integer, nullable=False),
    sa.Column("handled", sa.Boolean, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
)
"""By rule and job, the state (hub.alerts.rules, as JSON), and the last reported run, with the host that reports it."""

clock = sa.Table("clock", metadata, sa.Column("latest", sa.Double, nullable=False))
"""One row: the latest time that a beat has noted (hub.queue.clock)."""

schema = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("oldest_reader", sa.Integer, nullable=False),
)
"""One row: the version of these tables, and the oldest one whose programs may still use them."""
