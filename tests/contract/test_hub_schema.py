"""The queue's tables on both engines: what the migrations make, which releases work with them, how they are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy as sa

from fleet.db import Database
from fleet.errors import ConfigurationError, DatabaseFailed
from hub.queue import rollups, schema, upgrade
from tests.postgresql import Server
from tests.queues import Queue, jobs


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Database]:
    """Opens one and the same database without tables."""
    if request.param == "sqlite":
        return lambda: Database(f"sqlite:///{tmp_path}/hub.db")
    server: Server = request.getfixturevalue("postgresql")
    address = server.fresh()
    return lambda: Database(address)


def test_the_migrations_make_the_tables_that_the_code_knows(queue: Queue) -> None:
    """Alembic finds no difference between the two."""
    queue.change("DROP TABLE test_clock")

    def differences(db: object) -> list[object]:
        context = alembic.migration.MigrationContext.configure(db, opts={"compare_type": True})  # type: ignore[arg-type]
        return list(alembic.autogenerate.compare_metadata(context, schema.metadata))

    assert queue.database.run(differences) == []


def test_an_upgrade_is_done_once_and_then_nothing(empty: Callable[[], Database]) -> None:
    """A database without tables is refused with the command that mends it; that makes them, and is idempotent."""
    database = empty()
    with pytest.raises(ConfigurationError, match="has no tables") as caught:
        upgrade.check(database)
    assert caught.value.hint == "fleet db upgrade"
    assert upgrade.upgrade(database) == (0, upgrade.VERSION)
    assert upgrade.upgrade(database) == (upgrade.VERSION, upgrade.VERSION)
    assert upgrade.check(database) == upgrade.VERSION
    database.close()


def test_adjacent_versions_work_together_and_a_newer_one_is_refused(queue: Queue) -> None:
    """Tables of the next version that say so are used by this release; those that it cannot know are not touched."""
    hub = queue.hub()
    queue.change("ALTER TABLE jobs ADD COLUMN of_the_next_version TEXT")
    queue.change(f"UPDATE schema_version SET version = {upgrade.VERSION + 1}")
    assert upgrade.check(queue.database) == upgrade.VERSION + 1
    assert upgrade.upgrade(queue.database) == (upgrade.VERSION + 1,) * 2
    hub.store.add(jobs("a"))
    for claimed in hub.claim():
        hub.end(claimed)
    queue.change(f"UPDATE schema_version SET version = {upgrade.VERSION + 2}, oldest_reader = {upgrade.VERSION + 1}")
    for refused in (upgrade.check, upgrade.upgrade):
        with pytest.raises(ConfigurationError, match="newer than this release"):
            refused(queue.database)
    queue.change("UPDATE schema_version SET version = 0, oldest_reader = 0")
    with pytest.raises(ConfigurationError, match="is of version 0"):
        upgrade.check(queue.database)


def test_what_has_ended_before_is_counted_once(empty: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of the version before, with runs in them, are brought up to this one; counts that are not kept so long are
    not made first.
    """
    database = empty()
    with monkeypatch.context() as before:
        before.setattr(upgrade, "VERSION", 5)
        upgrade.upgrade(database)
    run = "INSERT INTO runs (job, fence, site, task, arguments, began_at, ended_at, outcome) VALUES "
    values = ["(1, 1, 'a', 'visit', '{}', 3599.0, 3601.9, 'good')", "(2, 1, 'a', 'visit', '{}', NULL, 3659.5, 'good')"]
    values += [f"({at}, 1, 'old', 'visit', '{{}}', 0.0, {-at * 86_400.0}, 'good')" for at in (50, 150)]
    database.run(lambda db: db.execute(sa.text(run + ", ".join(values).replace(":", r"\:"))))
    assert upgrade.upgrade(database) == (5, upgrade.VERSION)
    for span, start in (("minute", 3600), ("hour", 3600), ("day", 0)):
        (one,) = database.run(lambda db, span=span: rollups.counts(db, span, 0))  # type: ignore[misc]
        assert (one.begins_at, one.outcome, one.runs, round(one.seconds, 3)) == (start, "good", 2, 2.9)
    old = {span: database.run(lambda db, span=span: rollups.counts(db, span, -1e9, "old")) for span in rollups.SPANS}  # type: ignore[misc]
    assert {span: len(found) for span, found in old.items()} == {"minute": 0, "hour": 1, "day": 2}
    database.close()


def test_every_version_says_who_can_read_it() -> None:
    """Each release can use the tables of the one before it, and no version claims a reader younger than itself."""
    assert sorted(upgrade.OLDEST_READERS) == list(range(1, upgrade.VERSION + 1))
    assert all(max(1, version - 1) >= oldest for version, oldest in upgrade.OLDEST_READERS.items())


def test_a_failed_upgrade_leaves_nothing_behind(empty: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is one transaction."""
    monkeypatch.setattr(upgrade, "OLDEST_READERS", {})
    database = empty()
    with pytest.raises(KeyError):
        upgrade.upgrade(database)
    with pytest.raises(ConfigurationError, match="has no tables"):
        upgrade.check(database)
    database.close()


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "sqlite://", "sqlite:///relative.db", "mysql://u:secret@h/d", "postgresql+asyncpg://h/d"],
)
def test_an_address_that_is_none_is_refused_without_showing_it(address: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError, match="of no known kind") as caught:
        Database(address)
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_an_error_without_its_password(tmp_path: Path) -> None:
    """Named, with a hint, for both engines."""
    for address in (f"postgresql://u:secret@/d?host={tmp_path}", f"sqlite:///{tmp_path}/no/folder/hub.db"):
        with pytest.raises(DatabaseFailed) as caught:
            upgrade.check(Database(address))
        assert str(tmp_path) in caught.value.message and "secret" not in caught.value.message
