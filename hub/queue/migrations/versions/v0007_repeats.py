"""An index that finds repeating jobs among all waiting ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    """Add the index."""
    repeats = sa.text("interval_seconds IS NOT NULL OR cron IS NOT NULL")
    op.create_index("jobs_repeat", "jobs", ["id"], postgresql_where=repeats, sqlite_where=repeats)
