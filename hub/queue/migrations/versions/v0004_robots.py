"""The Crawl-delay of a site's robots.txt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Add the column."""
    op.add_column("sites", sa.Column("crawl_delay", sa.Double))
