"""Access to databases: SQLite, which needs no installation, and PostgreSQL for many hosts. Settings, clock, retries.

An address may contain a password: no error shows it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import tenacity
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles

from fleet.errors import ConfigurationError, DatabaseFailed

T = TypeVar("T")
BUSY_MILLISECONDS = 4000
"""How long another program may hold a SQLite file."""
CONNECT_SECONDS = 5
_AGAIN = {"40P01", "40001"}
"""PostgreSQL's deadlock_detected and serialization_failure: it has undone the whole transaction."""
_ATTEMPTS = 10
_CLOCKS = {
    # unixepoch('subsec') came with SQLite 3.42; Debian 12 has 3.40.
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0",
    # The time now, not that of the beginning of the transaction.
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::float8",
}
_POSTGRESQL = {
    # A program that hangs in a transaction, or a host that lost power, holds its locks no longer than this.
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "lock_timeout": "10s",
    "statement_timeout": "60s",
    # Compiling takes longer than any query of ours.
    "jit": "off",
    # Every query finds its few rows by an index and in its order, even with outdated statistics.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "max_parallel_workers_per_gather": "0",
}


def sqlite_engine(path: Path, **pragmas: str) -> sa.Engine:
    """The SQLite file at PATH with one connection, for one thread at a time; PRAGMAS are set beside ours.

    A transaction locks the file from its beginning, unless the execution option `reading` is set: two writers wait
    for each other instead of failing when they go from reading to writing.
    """
    ours = {"journal_mode": "WAL", "foreign_keys": "ON", "busy_timeout": str(BUSY_MILLISECONDS), **pragmas}

    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, see on_begin
        for name, value in ours.items():
            connection.execute(f"PRAGMA {name}={value}")

    def on_begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.StaticPool)
    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
    return engine


class Database:
    """A database at an address, `sqlite:////PATH` or `postgresql://...`, for any thread of this process.

    Raises ConfigurationError for an invalid address.
    """

    def __init__(self, address: str, *, clock: str | None = None) -> None:
        """CLOCK: a query for the seconds since 1970, instead of the database's own."""
        url = _url(address)
        self.url = url
        self.name = url.get_backend_name()
        if self.name == "sqlite":
            assert url.database
            # FULL: what was committed is on disk, also when the power fails.
            self._engine = sqlite_engine(Path(url.database), synchronous="FULL")
            self._turn: threading.Lock | nullcontext[None] = threading.Lock()
        else:
            options = " ".join(f"-c {name}={value}" for name, value in _POSTGRESQL.items())
            arguments = {"connect_timeout": CONNECT_SECONDS, "options": options, "application_name": "fleet"}
            self._engine = sa.create_engine(url, connect_args=arguments, isolation_level="READ COMMITTED")
            self._turn = nullcontext()
        self._clock = sa.text(clock or _CLOCKS[self.name])

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def engine(self) -> sa.Engine:
        """SQLAlchemy's engine, for migrations and for tests that watch the queries."""
        return self._engine

    def run(self, work: Callable[[sa.Connection], T], *, reading: bool = False) -> T:
        """Run WORK in one transaction, again if the database rolled it back because of another transaction.

        With READING it waits for no writer. Raises DatabaseFailed when the database refuses or cannot be reached.
        """
        try:
            result: T = _again(self._once, work, reading)
            return result
        except sa.exc.DBAPIError as error:
            raise DatabaseFailed(
                f"the database {self.url.render_as_string()}: {' '.join(str(error.orig).split())}",
                hint="does it run, is its disk full, does another program hold it?",
            ) from None

    def now(self, db: sa.Connection) -> float:
        """Seconds since 1970 by the database's clock, which all hosts share."""
        return float(db.scalar(self._clock) or 0)

    def _once(self, work: Callable[[sa.Connection], T], reading: bool) -> T:
        with self._turn, self._begin(reading) as db:
            return work(db)

    @contextmanager
    def _begin(self, reading: bool) -> Iterator[sa.Connection]:
        with self._engine.connect().execution_options(reading=reading) as db, db.begin():
            yield db


def _url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except sa.exc.ArgumentError:
        url = None
    if url is not None and url.drivername == "sqlite" and url.database and url.database.startswith("/"):
        return url
    if url is not None and url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    # The address stays out of the message: it may hold a password.
    raise ConfigurationError(
        "the database's address is of no known kind",
        hint="sqlite:////var/lib/fleet/hub/hub.db, or postgresql://USER@HOST/NAME",
    )


def _undone(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in _AGAIN


_again = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_undone),
    wait=tenacity.wait_random_exponential(multiplier=0.005, max=0.5),
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    reraise=True,
)


class Many(sa.types.TypeDecorator[list[Any]]):
    """A list as one parameter, so that a statement has one text however long the list is."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, item: type[sa.types.TypeEngine[Any]]) -> None:
        super().__init__()
        self.item = item

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """An array, or JSON text for databases without arrays."""
        if dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql  # a tenth of SQLAlchemy's imports

            return dialect.type_descriptor(postgresql.ARRAY(self.item))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The list as it is sent to the database."""
        return list(value) if dialect.name == "postgresql" else json.dumps(list(value))


def each(many: sa.BindParameter[Any]) -> sa.TableValuedAlias:
    """The items of MANY, a parameter of type Many, as a table with one column, `value`."""
    return _Each(many).table_valued("value", name="value")


class _Each(sa.sql.functions.FunctionElement[Any]):
    inherit_cache = True


@compiles(_Each, "postgresql")
def _unnest(element: _Each, compiler: Any, **words: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **words)})"


@compiles(_Each, "sqlite")
def _rows_of_json(element: _Each, compiler: Any, **words: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **words)})"


class among(sa.sql.functions.FunctionElement[bool]):  # noqa: N801 - stands where SQLAlchemy's functions do
    """Whether a column is one of a list: among(COLUMN, bindparam of type Many)."""

    inherit_cache = True
    type = sa.Boolean()

    def self_group(self, against: Any = None) -> Any:
        """Unchanged: for SQLite SQLAlchemy would append `= 1`, and the planner would then use no index."""
        return self


@compiles(among, "postgresql")
def _any(element: among, compiler: Any, **words: Any) -> str:
    column, many = element.clauses
    return f"{compiler.process(column, **words)} = ANY({compiler.process(many, **words)})"


@compiles(among, "sqlite")
def _json_each(element: among, compiler: Any, **words: Any) -> str:
    column, many = element.clauses
    found = f"(SELECT value FROM json_each({compiler.process(many, **words)}))"  # noqa: S608 - SQLAlchemy's own text
    return f"{compiler.process(column, **words)} IN {found}"
