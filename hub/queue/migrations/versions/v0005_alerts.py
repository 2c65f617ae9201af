"""The states of alert rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "alerts",
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
