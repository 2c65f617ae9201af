"""Tables for work from another server's queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Add to the tables; older releases leave the new parts empty."""
    op.add_column("jobs", sa.Column("until", sa.Double))
    op.add_column("pictures", sa.Column("address", sa.Text))
    op.create_table("asks", sa.Column("host", sa.Text, primary_key=True), sa.Column("word", sa.Text, nullable=False))
    op.create_table(
        "allocations",
        sa.Column("job", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
    )
