"""Upgrades a store of an earlier version to this version, in the transaction that opens it."""

from __future__ import annotations

import time

import sqlalchemy as sa

from fleet.errors import ConfigurationError

VERSION = 6
"""PRAGMA user_version. Before 2: no columns for IPv6. Before 3: a server's columns have other names, a lease's endpoint
is one column. Before 4: the source of an exit was not stored, and one worker alone could set it. Before 5: a key had
one server. Before 6: no key service. An earlier netctl cannot use a file of this version."""
_NAMES = {"endpoint_host": "server", "endpoint_port": "port"}
_DERIVED = {("leases", "public"): "(SELECT public FROM old_keys WHERE old_keys.id = key_id)"}
"""The SQL expression that fills a new column, by table and name."""


def upgrade(db: sa.Connection, metadata: sa.MetaData) -> None:
    """Upgrade the file of DB to VERSION, with METADATA's tables. Raises ConfigurationError for a later version."""
    version = db.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > VERSION:
        raise ConfigurationError(
            f"the key store has version {version}, and this netctl knows versions up to {VERSION}",
            hint="install the version of netctl that wrote it",
        )
    if version == VERSION:
        return
    for old in _NAMES.keys() & _columns(db, "keys"):
        db.exec_driver_sql(f"ALTER TABLE keys RENAME COLUMN {old} TO {_NAMES[old]}")
    _split_endpoints(db)
    _move(db, metadata)
    if version < 4:
        _doubt_exits(db)
    db.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def _columns(db: sa.Connection, table: str) -> set[str]:
    # A new file has version 0 and no tables.
    return {row.name for row in db.exec_driver_sql(f"PRAGMA table_info({table})")}


def _move(db: sa.Connection, metadata: sa.MetaData) -> None:
    """Create every table of METADATA, and move the rows of the old tables there, with the columns that both have.

    New tables are needed because SQLite cannot drop a UNIQUE constraint of an existing table.
    """
    there = [table for table in metadata.sorted_tables if _columns(db, table.name)]
    made_by_us = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    for index in db.exec_driver_sql(made_by_us).scalars().all():
        db.exec_driver_sql(f"DROP INDEX {index}")
    for table in there:
        db.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO old_{table.name}")
    metadata.create_all(db)
    for table in there:
        had = _columns(db, f"old_{table.name}")
        made = {one.name: _DERIVED.get((table.name, one.name), one.name) for one in table.columns}
        made = {name: value for name, value in made.items() if value != name or name in had}
        names, values = ", ".join(made), ", ".join(made.values())
        db.exec_driver_sql(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM old_{table.name}")  # noqa: S608
    for table in reversed(there):
        db.exec_driver_sql(f"DROP TABLE old_{table.name}")


def _split_endpoints(db: sa.Connection) -> None:
    """Split the column `endpoint`, which has `HOST PORT`, into two."""
    if "endpoint" not in _columns(db, "leases"):
        return
    db.exec_driver_sql("ALTER TABLE leases ADD COLUMN endpoint_host TEXT NOT NULL DEFAULT ''")
    db.exec_driver_sql("ALTER TABLE leases ADD COLUMN endpoint_port INTEGER NOT NULL DEFAULT 0")
    for lease, endpoint in db.exec_driver_sql("SELECT id, endpoint FROM leases").all():
        # A scope id after the address (RFC 4007) may contain blanks; a port does not.
        host, _, port = endpoint.rpartition(" ")
        db.exec_driver_sql(
            "UPDATE leases SET endpoint_host = ?, endpoint_port = ? WHERE id = ?", (host, int(port), lease)
        )
    db.exec_driver_sql("ALTER TABLE leases DROP COLUMN endpoint")


def _doubt_exits(db: sa.Connection) -> None:
    """Mark each known exit as learned, until the key's file is imported again."""
    db.exec_driver_sql("UPDATE keys SET learned_at = ? WHERE exit_address IS NOT NULL", (time.time(),))
