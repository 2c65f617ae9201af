"""What fleet/db.py promises about a database, on both engines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import sqlalchemy as sa

from fleet import db as fleet_db
from fleet.db import Database, Many, among
from fleet.errors import DatabaseFailed
from tests.postgresql import Server
from tests.queues import Queue

ITEMS = sa.table("items", sa.column("id", sa.Integer), sa.column("value", sa.Integer))


@pytest.fixture
def opened(addresses: Callable[[], str]) -> Iterator[Callable[[], Database]]:
    """Opens the same database each time, with a table of two rows."""
    address = addresses()
    queue = Queue(address)
    queue.change("CREATE TABLE items (id INTEGER PRIMARY KEY, value INTEGER)")
    queue.change("INSERT INTO items VALUES (1, 0), (2, 0)")
    queue.close()
    made: list[Database] = []

    def again() -> Database:
        made.append(Database(address))
        return made[-1]

    yield again
    for one in made:
        one.close()


def add(database: Database, *ids: int, between: Callable[[], None] = lambda: None) -> None:
    """Add one to each of IDS, in this order, in one transaction."""

    def work(db: sa.Connection) -> None:
        for number in ids:
            db.execute(sa.update(ITEMS).where(ITEMS.c.id == number).values(value=ITEMS.c.value + 1))
            between()

    database.run(work)


def values(database: Database) -> list[int]:
    """The values of both rows."""
    return database.run(lambda db: list(db.scalars(sa.select(ITEMS.c.value).order_by(ITEMS.c.id))), reading=True)


def test_two_transactions_in_a_circle_both_happen(
    opened: Callable[[], Database], request: pytest.FixtureRequest
) -> None:
    """The database rolls back one of them, which is retried: no caller notices, and nothing happens twice."""
    server = request.getfixturevalue("postgresql") if opened().name == "postgresql" else None
    before = server.deadlocks() if server else 0
    meet = threading.Barrier(2)
    first = [True, True]

    def between(number: int) -> Callable[[], None]:
        def wait() -> None:
            # In the first try alone, each has one row and wants the other's.
            if first[number]:
                first[number] = False
                try:
                    meet.wait(60 if server else 0.5)
                except threading.BrokenBarrierError:
                    pass  # SQLite has one writer: there is no circle

        return wait

    threads = [
        threading.Thread(target=add, args=(opened(), *ids), kwargs={"between": between(number)})
        for number, ids in enumerate([(1, 2), (2, 1)])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(opened()) == [2, 2]
    assert server is None or server.deadlocks() > before, "there was a circle"


def test_what_fails_is_undone_and_told(opened: Callable[[], Database]) -> None:
    """A failed transaction leaves nothing; an error that a retry cannot help is raised at once, as a fleet error."""
    database, tries = opened(), []

    def work(db: sa.Connection) -> None:
        tries.append(1)
        db.execute(sa.update(ITEMS).values(value=7))
        db.execute(sa.text("INSERT INTO items VALUES (1, 1)"))

    with pytest.raises(DatabaseFailed, match=r"(?i)unique"):
        database.run(work)
    assert values(database) == [0, 0] and len(tries) == 1


def test_who_reads_waits_for_no_writer(opened: Callable[[], Database]) -> None:
    """A reader gets its answer while another connection is in the middle of a change."""
    reader = opened()
    seen: list[list[int]] = []
    add(opened(), 1, between=lambda: seen.append(values(reader)))
    assert seen == [[0, 0]] and values(reader) == [1, 0]


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_a_file_that_somebody_holds_is_told_of(opened: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes after a while, with a hint; after the release it works again."""
    monkeypatch.setattr(fleet_db, "BUSY_MILLISECONDS", 20)
    other = opened()

    def refused() -> None:
        with pytest.raises(DatabaseFailed, match="locked") as caught:
            add(other, 2)
        assert "another program" in caught.value.hint

    add(opened(), 1, between=refused)
    add(other, 2)
    assert values(other) == [1, 1]


def test_its_clock_is_seconds_since_1970_and_goes_on(opened: Callable[[], Database]) -> None:
    """The time advances within a transaction too."""
    database = opened()
    begun = time.time()
    first, second = database.run(lambda db: (database.now(db), [database.now(db) for _ in range(50)][-1]))
    assert begun - 1 < first <= second < time.time() + 1


def test_a_list_is_one_parameter_of_any_length(opened: Callable[[], Database]) -> None:
    """The text of the statement is the same for every length; an empty list matches nothing."""
    database = opened()
    query = sa.select(ITEMS.c.id).where(among(ITEMS.c.id, sa.bindparam("ids", type_=Many(sa.Integer))))

    def chosen(ids: list[int], db: sa.Connection) -> list[int]:
        return sorted(db.scalars(query, {"ids": ids}))

    for ids, expected in (([], []), ([2], [2]), ([1, 2, 3], [1, 2]), (list(range(50_000)), [1, 2])):
        assert database.run(partial(chosen, ids)) == expected


def test_a_server_that_was_away_is_found_again(postgresql: Server) -> None:
    """Killed and started again, the next transaction works; the one before it fails, and says so."""
    database = Database(postgresql.fresh())
    assert database.run(lambda db: db.scalar(sa.text("SELECT 1"))) == 1
    postgresql.kill()
    try:
        with pytest.raises(DatabaseFailed, match="the database postgresql"):
            database.run(lambda db: db.scalar(sa.text("SELECT 1")))
    finally:
        postgresql.start()
    assert database.run(lambda db: db.scalar(sa.text("SELECT 1"))) == 1
    database.close()


def test_a_connection_that_stands_still_lets_go(postgresql: Server) -> None:
    """The server ends a transaction whose program does nothing, and one whose host is gone: its locks are free."""
    database = Database(postgresql.fresh())
    found = database.run(lambda db: db.scalar(sa.text("SHOW idle_in_transaction_session_timeout")))
    assert found == "10s"
    assert database.run(lambda db: db.scalar(sa.text("SHOW lock_timeout"))) == "10s"
    database.close()
