"""Sites, jobs, runs, hosts and the outbox, with the settings that PostgreSQL's statistics need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _sites()
    _jobs()
    _runs()
    _outbox()
    op.create_table(
        "hosts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("incarnation", sa.Text),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
    )
    op.execute(op.create_table("clock", sa.Column("latest", sa.Double, nullable=False)).insert().values(latest=0.0))
    op.create_table(
        "schema_version",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("oldest_reader", sa.Integer, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        _settings()


def _sites() -> None:
    op.create_table(
        "sites",
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
        sa.CheckConstraint("running BETWEEN 0 AND room", name="never_too_many"),
    )
    op.create_index("sites_awake", "sites", ["priority", "wake_at"])


def _jobs() -> None:
    op.create_table(
        "jobs",
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
        sa.CheckConstraint("state IN ('ready', 'leased', 'aside')", name="states"),
        sa.CheckConstraint("(state = 'leased') = (host IS NOT NULL)", name="leased_to_a_host"),
        sqlite_autoincrement=True,
    )
    ready, leased = sa.text("state = 'ready'"), sa.text("state = 'leased'")
    columns = ["site", "exit", "priority", "due_at", "id"]
    op.create_index("jobs_ready", "jobs", columns, postgresql_where=ready, sqlite_where=ready)
    op.create_index("jobs_leased", "jobs", ["host"], postgresql_where=leased, sqlite_where=leased)


def _runs() -> None:
    op.create_table(
        "runs",
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
    op.create_index("runs_ended", "runs", ["ended_at"])
    keyed = sa.text("key IS NOT NULL")
    op.create_index("runs_key", "runs", ["key"], postgresql_where=keyed, sqlite_where=keyed)


def _outbox() -> None:
    op.create_table(
        "pictures",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
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
    op.create_index("outbox_due", "outbox", ["host", "aside", "due_at"])
    op.create_table(
        "delivered",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("answer", sa.Text),
    )


def _settings() -> None:
    """Rows of these tables change all the time: their dead versions are removed early, and counted often.

    The free space lets a new version of a row lie beside the old one. Tables that only grow are analysed seldom.
    """
    for table in ("sites", "jobs", "outbox"):
        op.execute(
            f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, "
            "autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0, "
            "autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 500)"
        )
    op.execute(
        "ALTER TABLE runs SET (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1)"
    )
