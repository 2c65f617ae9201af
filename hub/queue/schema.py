"""The hub's tables, with the invariants that no mistake of the code can break. hub/queue/migrations makes them.

Times are seconds since 1970 by the database's clock. A job belongs to one site for ever, and whoever changes a job
holds its site's row: that one lock orders everything (hub.queue.locks).
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
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
"""A site: its lock, its bucket and its alarm clock.

`slowed` multiplies the interval after refusals. `most` is what was asked for, `room` what is in force: no less than
what runs already. `crawl_delay` is what its robots.txt asks for. `wake_at` is when a job of it can begin, none without
one; `priority` is that job's.
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
"""What can still run. `ready`: from due_at on. `leased`: a host has it. `aside`: its attempts are spent.

`due_at` is when it may run next, `scheduled_at` when that run was due before any failure: the beat of what repeats.
`fence` counts how often it was leased. `exit` is where it has to come out, "" anywhere. After `until` its last run is
the answer, whatever that was.
"""
READY: sa.ColumnClause[str] = sa.literal_column("'ready'")
LEASED: sa.ColumnClause[str] = sa.literal_column("'leased'")
"""Literal: a partial index serves a prepared statement only where its condition stands in the text."""
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
"""What has ended. The primary key is "exactly once": no lease of a job ends twice.

`details` is what the worker says beside its answer, as JSON: stages, requests, losses, addresses.
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
"""By minute, hour and day, how many runs of a site came to what, and how long they took (hub.queue.rollups)."""
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
"""A host's lease, one for all its jobs. Without an incarnation it is fenced: it was dead for longer than its lease."""

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
"""`address` is where the server of a source has it."""
in_order = (sa.func.length(pictures.c.name), pictures.c.name)
"""The picture of a run first, then those of the other pages (fleet.result): their names are longer."""
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
"""What is still to be sent: a row that has arrived leaves it for `delivered` in the same transaction."""
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
"""What has arrived, and what the target answered."""

asks = sa.Table(
    "asks", metadata, sa.Column("host", sa.Text, primary_key=True), sa.Column("word", sa.Text, nullable=False)
)
"""By host, the word under which a source has been asked for work, until its answer is written down."""
allocations = sa.Table(
    "allocations",
    metadata,
    sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("said", sa.Text, nullable=False),
)
"""What a source has given out to this fleet, and has had no answer to."""

kept = sa.Table(
    "kept", metadata, sa.Column("step", sa.Text, primary_key=True), sa.Column("until", sa.Double, nullable=False)
)
"""By step of the ladder, until when it has been done (hub.queue.expiry)."""

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
"""By rule and job, what is known (hub.alerts.rules, as JSON), and the run that was told of last, by which host."""

clock = sa.Table("clock", metadata, sa.Column("latest", sa.Double, nullable=False))
"""One row: the latest time that a beat has seen (hub.queue.clock)."""

schema = sa.Table(
    "schema_version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("oldest_reader", sa.Integer, nullable=False),
)
"""One row: the version of these tables, and the oldest one whose programs may still use them."""
