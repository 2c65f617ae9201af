"""How far the retention of results has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Add the table."""
    op.create_table("kept", sa.Column("step", sa.Text, primary_key=True), sa.Column("until", sa.Double, nullable=False))
