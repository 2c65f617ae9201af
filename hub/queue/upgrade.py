"""The database's tables and this release: makes, upgrades or refuses them.

For each migration OLDEST_READERS names the oldest version of these programs that may still use its tables, so that
hosts can be upgraded one after the other: first the database, then the hosts.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from fleet.db import Database
from fleet.errors import ConfigurationError
from hub.queue.schema import schema

VERSION = 7
"""The version of the tables that this release knows."""
OLDEST_READERS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}
"""By version, the oldest release that can use it. A migration may only add what older releases do not know."""
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x666C656574
"""The key of pg_advisory_xact_lock: upgrades wait for one another, not for hubs."""


def upgrade(database: Database) -> tuple[int, int]:
    """Upgrade the tables to VERSION, in one transaction; returns the versions before (0: no tables) and after.

    Raises ConfigurationError if they are newer than this release.
    """
    return database.run(_upgrade)


def check(database: Database) -> int:
    """The version of the tables; raises ConfigurationError if this release cannot use them."""
    found = database.run(_read, reading=True)
    version, oldest = found or (0, 0)
    if version < VERSION:
        what = f"is of version {version}" if found else "has no tables of the fleet"
        raise ConfigurationError(
            f"the database {_shown(database)} {what}, this release needs {VERSION}", hint="fleet db upgrade"
        )
    if oldest > VERSION:
        raise _newer(database, version)
    return version


def _upgrade(db: sa.Connection) -> tuple[int, int]:
    if db.dialect.name == "postgresql":
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        db.execute(sa.text("SET LOCAL statement_timeout = 0"))
    found = _read(db)
    version, oldest = found or (0, 0)
    if oldest > VERSION:
        raise _newer(db, version)
    if version >= VERSION:
        return version, version
    from alembic import command  # takes a tenth of the time in which any command starts
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = db
    command.upgrade(config, str(VERSION))
    db.execute(sa.delete(schema))
    db.execute(sa.insert(schema), {"version": VERSION, "oldest_reader": OLDEST_READERS[VERSION]})
    return version, VERSION


def _read(db: sa.Connection) -> tuple[int, int] | None:
    if not sa.inspect(db).has_table(schema.name):
        return None
    row = db.execute(sa.select(schema.c.version, schema.c.oldest_reader)).one_or_none()
    return None if row is None else (row.version, row.oldest_reader)


def _shown(of: Database | sa.Connection) -> str:
    url = of.url if isinstance(of, Database) else of.engine.url
    return url.render_as_string()


def _newer(of: Database | sa.Connection, version: int) -> ConfigurationError:
    return ConfigurationError(
        f"the database {_shown(of)} is of version {version}, newer than this release, which knows {VERSION}",
        hint="install the release that this database was upgraded with",
    )
