"""A store of an earlier version becomes one of this version, in the transaction that opens it."""

from __future__ import annotations

import time

import sqlalchemy as sa

from fleet.errors import ConfigurationError

VERSION = 4
"""PRAGMA user_version. Before 2: no columns for IPv6. Before 3: a server's columns have other names, a lease's endpoint
is one column. Before 4: whose word an exit is was not written down, and a worker alone could teach it.
An earlier netctl cannot use a file of this version."""
_NAMES = {"endpoint_host": "server", "endpoint_port": "port"}


def upgrade(db: sa.Connection, keys: sa.Table) -> None:
    """Bring the file behind DB up to VERSION; KEYS is as it should be. Raises ConfigurationError for a later one."""
    version = db.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > VERSION:
        raise ConfigurationError(
            f"the key store is of version {version}, and this netctl knows those up to {VERSION}",
            hint="install the netctl that has made it",
        )
    if version == VERSION:
        return
    _complete(db, keys)
    _split_endpoints(db)
    _doubt_exits(db)
    db.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def _columns(db: sa.Connection, table: str) -> set[str]:
    # A file that was made just now has version 0 and all of them.
    return {row.name for row in db.exec_driver_sql(f"PRAGMA table_info({table})")}


def _complete(db: sa.Connection, keys: sa.Table) -> None:
    """create_all makes tables alone, no columns."""
    for old in _NAMES.keys() & _columns(db, "keys"):
        db.exec_driver_sql(f"ALTER TABLE keys RENAME COLUMN {old} TO {_NAMES[old]}")
    there = _columns(db, "keys")
    for column in keys.columns:
        if column.name not in there:
            db.exec_driver_sql(f"ALTER TABLE keys ADD COLUMN {column.name} {column.type}")


def _split_endpoints(db: sa.Connection) -> None:
    """`HOST PORT` in one column becomes two."""
    if "endpoint" not in _columns(db, "leases"):
        return
    db.exec_driver_sql("ALTER TABLE leases ADD COLUMN endpoint_host TEXT NOT NULL DEFAULT ''")
    db.exec_driver_sql("ALTER TABLE leases ADD COLUMN endpoint_port INTEGER NOT NULL DEFAULT 0")
    for lease, endpoint in db.exec_driver_sql("SELECT id, endpoint FROM leases").all():
        # A scope id after the address (RFC 4007) may hold anything, blanks too; a port holds none.
        host, _, port = endpoint.rpartition(" ")
        db.exec_driver_sql(
            "UPDATE leases SET endpoint_host = ?, endpoint_port = ? WHERE id = ?", (host, int(port), lease)
        )
    db.exec_driver_sql("ALTER TABLE leases DROP COLUMN endpoint")


def _doubt_exits(db: sa.Connection) -> None:
    """Each known exit is one that was learned, until the key's file is imported again."""
    db.exec_driver_sql("UPDATE keys SET learned_at = ? WHERE exit_address IS NOT NULL", (time.time(),))
