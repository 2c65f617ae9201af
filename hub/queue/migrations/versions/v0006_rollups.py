"""Counts of runs by minute, hour and day; indexes for rare rows among many runs and jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Add the table, filled from the runs so far, and the indexes."""
    op.create_table(
        "rollups",
        sa.Column("span_seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("begins_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("site", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, primary_key=True),
        sa.Column("runs", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    op.create_index("rollups_site", "rollups", ["site", "span_seconds", "begins_at"])
    newest = ["ended_at", "job", "fence"]
    op.create_index("runs_outcome", "runs", ["outcome", *newest])
    op.create_index("runs_site", "runs", ["site", "outcome", *newest])
    op.drop_index("runs_key", "runs")
    keyed = sa.text("key IS NOT NULL")
    op.create_index("runs_key", "runs", ["key", *newest], postgresql_where=keyed, sqlite_where=keyed)
    op.create_index("jobs_state", "jobs", ["state", "id"])
    op.create_index("jobs_site", "jobs", ["site", "state", "id"])
    if op.get_bind().dialect.name == "postgresql":
        # The same rows change all the time: see the first migration.
        op.execute(
            "ALTER TABLE rollups SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, "
            "autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0)"
        )
    # This reads all runs once, and never again. Minutes and hours only as long as they are kept, and a day more: old
    # ones are removed a minute at a time, and a year has half a million of them.
    for span, days in ((60, 3), (3600, 91), (86_400, 1_000_000)):
        start = f"CAST(floor(ended_at / {span}) AS BIGINT) * {span}"
        if op.get_bind().dialect.name == "sqlite":
            start = f"CAST(ended_at AS INTEGER) / {span} * {span}"
        op.execute(
            "INSERT INTO rollups (span_seconds, begins_at, site, outcome, runs, seconds) "  # noqa: S608 - our own words
            f"SELECT {span}, {start}, site, outcome, count(*), coalesce(sum(ended_at - began_at), 0) "
            f"FROM runs WHERE ended_at >= (SELECT max(ended_at) FROM runs) - {days * 86_400} GROUP BY 2, 3, 4"
        )
