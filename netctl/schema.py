"""The key store's tables, with the invariants that no mistake of the code can break, and how it is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fleet.errors import ConfigurationError, NotAllowed

metadata = sa.MetaData()
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("public", sa.Text, nullable=False, unique=True),
    sa.Column("private", sa.LargeBinary, nullable=False),
    sa.Column("preshared", sa.LargeBinary),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("server_public", sa.Text, nullable=False),
    sa.Column("endpoint_host", sa.Text, nullable=False),
    sa.Column("endpoint_port", sa.Integer, nullable=False),
    sa.Column("exit_address", sa.Text),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("last_used_at", sa.Float),
)
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.ForeignKey("keys.id"), nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("state", sa.Text, sa.CheckConstraint("state IN ('held', 'ending', 'ended')"), nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.UniqueConstraint("slot", "generation"),
    sa.Index("one_lease_a_key", "key_id", unique=True, sqlite_where=sa.text("state <> 'ended'")),
    sa.Index("one_lease_a_slot", "slot", unique=True, sqlite_where=sa.text("state = 'held'")),
)


def engine(path: Path) -> sa.Engine:
    """The file at PATH, made when it is not there, for its owner alone; raises ConfigurationError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made before SQLite opens it: its -wal and -shm take their mode from it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except PermissionError:
        raise NotAllowed(f"{path} is for netctl and root alone", hint="repeat it with sudo") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be opened: {error.strerror}", hint="fleet up makes the folder and its owner"
        ) from error
    made = sa.create_engine(f"sqlite:///{path}", poolclass=sa.StaticPool)
    sa.event.listen(made, "connect", _on_connect)
    sa.event.listen(made, "begin", _on_begin)
    metadata.create_all(made)
    return made


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are SQLAlchemy's, see _on_begin
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "busy_timeout=5000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    # Immediate: two writers wait for each other instead of failing when they turn from reading to writing.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
