"""The key store's tables, with invariants that hold even if the code has a bug, and how the store is opened."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from fleet.db import sqlite_engine
from fleet.errors import ConfigurationError, KeyStoreFailed, NotAllowed
from fleet.machine.processes import boot_id
from netctl.pool.columns import columns
from netctl.pool.upgrade import upgrade

BUSY_MILLISECONDS = 4000
"""How long another program may hold the file: less than the deadline of a call (netctl.pool.threaded)."""
LONGEST_REST_SECONDS = 86_400
"""No key rests longer than this (see netctl.key_cooldown_seconds)."""
metadata = sa.MetaData()
boots = sa.Table("boots", metadata, sa.Column("id", sa.Text, primary_key=True))
"""One row: the boot (random/boot_id) from which the times in the other tables count."""
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("public", sa.Text, nullable=False),
    *columns(),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("region", sa.Text),
    sa.Column("last_used_at", sa.Float),
    sa.Column("learned_at", sa.Float),
    sa.Column("good_at", sa.Float),
    sa.Column("failed_at", sa.Float),
    sa.Column("trouble", sa.Text),
    sa.Column("aside_until", sa.Float),
    sa.Column("day", sa.Integer),
    sa.Column("good_leases", sa.Integer, nullable=False, server_default="0"),
    sa.Column("retired", sa.Integer, nullable=False, server_default="0"),
    sa.Column("leaving", sa.Integer, nullable=False, server_default="0"),
    sa.Index("one_row_a_server", "public", "server_public", "server", unique=True, sqlite_where=sa.text("NOT leaving")),
)
"""A key at a server: a key that may be used at several servers has one row for each, with the same `public`.

`origin`: the names of its files. All times but `last_used_at` are of the wall clock. `learned_at`: when its exit was
learned; NULL: its file names the exit, or it is not known. `good_at`: the last tunnel. `failed_at`, `trouble`: the last
failure and why. `aside_until`: until then it is chosen last. `good_leases`: tunnels on that `day` (its ordinal).
`retired`: it is not chosen. `leaving`: it is not chosen, and the row is deleted when its lease ends."""
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("key_id", sa.ForeignKey("keys.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("slot", sa.Integer, primary_key=True),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("claimed_at", sa.Float, nullable=False),
)
"""The exit of a key that each worker has reported last: netctl/pool/exits.py."""
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("key_id", sa.ForeignKey("keys.id", ondelete="SET NULL")),
    sa.Column("public", sa.Text, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("endpoint_host", sa.Text, nullable=False),
    sa.Column("endpoint_port", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("state", sa.Text, sa.CheckConstraint("state IN ('held', 'ending', 'ended')"), nullable=False),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.UniqueConstraint("slot", "generation"),
    sa.Index("one_lease_a_key", "public", unique=True, sqlite_where=sa.text("state <> 'ended'")),
    sa.Index("one_lease_a_slot", "slot", unique=True, sqlite_where=sa.text("state = 'held'")),
)

issued = sa.Table(
    "issued",
    metadata,
    sa.Column("public", sa.Text, primary_key=True),
    sa.Column("asked", sa.Text, nullable=False),
    sa.Column("back", sa.Text, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("since_wall", sa.Float, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)
"""Keys that a service has lent for `seconds` and that are not returned yet: netctl/pool/issued.py."""
service = sa.Table("service", metadata, sa.Column("trouble", sa.Text, nullable=False))
"""One row if there is a key service: what is wrong with it ("": nothing)."""


class File:
    """The file at PATH, readable only for its owner; created if it is missing.

    Raises NotAllowed; ConfigurationError when it cannot be opened, is damaged, or is not a key store: a store that may
    have lost leases would hand out keys twice; KeyStoreFailed when it cannot be written now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = _make(path)
        self._looked_at: tuple[int, int] | None = None
        """Size and modification time of the file when it was last found undamaged."""
        # NORMAL is enough: after a power failure no lease exists any more, whether its row is on disk or not.
        pragmas = {"synchronous": "NORMAL", "secure_delete": "ON", "busy_timeout": str(BUSY_MILLISECONDS)}
        self._engine = sqlite_engine(path, **pragmas)
        self._reader = self._engine.execution_options(reading=True)
        try:
            with self._engine.begin() as db:
                self._check(db)
                upgrade(db, metadata)
                _note_boot(db)
        except sa.exc.DatabaseError as error:
            self.close()
            if _is_damage(error.orig):
                raise self._damaged(str(error.orig)) from None
            # Not final: the supervisor starts netctl again, and there may be space by then.
            raise KeyStoreFailed(
                f"{path} cannot be used: {error.orig}", hint="is the disk full, or the file system read-only?"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    @contextmanager
    def begin(self, *, reading: bool = False) -> Iterator[sa.Connection]:
        """One transaction; raises KeyStoreFailed where the file is locked, damaged or missing, or the disk is full.

        With READING it does not wait for another program that writes.
        """
        self._look()
        try:
            with (self._reader if reading else self._engine).begin() as db:
                yield db
        except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
            cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
            busy = "is the disk full, or does another program hold the file?"
            hint = "restart netctl: it checks the whole file" if _is_damage(cause) else busy
            raise KeyStoreFailed(f"{self._path}: {cause}", hint=hint) from None

    def _look(self) -> None:
        """Check that it is the same file and, if it was written since, not damaged: SQLite itself uses its cache."""
        try:
            found = self._path.stat()
        except OSError:
            found = None
        if found is None or found.st_ino != self._inode:
            raise KeyStoreFailed(
                f"{self._path} was removed or replaced while netctl had it open", hint="restart netctl"
            )
        seen = found.st_size, found.st_mtime_ns
        if seen == self._looked_at:
            return
        # Written by a checkpoint (about every 60 leases) or by another program. A new connection has no cache.
        try:
            with sa.create_engine(f"sqlite:///{self._path}", poolclass=sa.NullPool).connect() as db:
                self._check(db)
        except (sa.exc.DatabaseError, ConfigurationError) as error:
            what = error.message if isinstance(error, ConfigurationError) else f"{self._path}: {error.orig}"
            raise KeyStoreFailed(what, hint="restart netctl: it checks the whole file") from None
        self._looked_at = seen

    def _check(self, db: sa.Connection) -> None:
        found = db.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise self._damaged(str(found))

    def _damaged(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"the key store {self._path} is damaged ({' '.join(what.split())}): no key is handed out",
            hint=f"fleet down; mv {self._path} {self._path}.damaged; netctl keys import PATH...",
        )


def _make(path: Path) -> int:
    """Create the file at PATH if it is missing, accessible only for its owner; returns its inode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Created before SQLite opens it: its -wal and -shm files take their mode from it.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        raise NotAllowed(f"{path} is for netctl and root alone", hint="repeat it with sudo") from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be opened: {error.strerror}", hint="fleet up makes the folder and its owner"
        ) from error
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _is_damage(error: BaseException | None) -> bool:
    # OperationalError is the subclass for locked, full or read-only; damage raises a plain DatabaseError.
    return not isinstance(error, sqlite3.OperationalError)


def driver(db: sa.Connection) -> sqlite3.Connection:
    """The SQLite connection in DB's transaction: SQLAlchemy adds 0.06 ms to each statement, more than SQLite needs."""
    connection = db.connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


# After a boot the wall clock tells how long a key has been lent; if it is before `since_wall`, the key has expired.
_LENT = """
UPDATE issued SET since = :now - CASE WHEN :wall < since_wall THEN seconds ELSE :wall - since_wall END
"""


def _note_boot(db: sa.Connection) -> None:
    """Times are seconds since boot: after a new boot, move the earlier ones below zero, in their order."""
    now = boot_id()
    if db.scalar(sa.select(boots.c.id)) == now:
        return
    newest = sa.select(sa.func.max(keys.c.last_used_at)).scalar_subquery()
    db.execute(sa.update(keys).values(last_used_at=keys.c.last_used_at - newest - LONGEST_REST_SECONDS))
    db.exec_driver_sql(_LENT, {"now": clock(), "wall": time.time()})
    db.execute(sa.delete(boots))
    db.execute(sa.insert(boots).values(id=now))


def clock() -> float:
    """Seconds since boot, including suspend: a step of the wall clock must not change how long a key rests."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
