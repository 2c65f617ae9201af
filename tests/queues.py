"""Queues for tests: an empty one on either engine, whose clock can be set ahead, and any number of hubs at it."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fleet.db import Database
from fleet.outcomes import Ending
from hub.queue import upgrade
from hub.queue.store import Host, Store
from hub.queue.values import Claimed, Claims, Finished, Job, Pace, Taken
from tests.postgresql import Server

CLOCKS = {
    "sqlite": "SELECT (julianday('now') - 2440587.5) * 86400.0 + (SELECT ahead FROM test_clock)",
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())::float8 + (SELECT ahead FROM test_clock)",
}
FREE = Pace(interval_seconds=0, most=1000)
"""The pace of a site that bears anything."""
STANDING = "SELECT ahead FROM test_clock"
"""A clock that only a test moves."""
LEASE_SECONDS = 15.0


def hasty(database: Database) -> None:
    """No loss of power is tested: SQLite need not wait for the disk."""
    if database.name == "sqlite":
        sa.event.listen(database.engine, "connect", lambda own, _: own.execute("PRAGMA synchronous=OFF"))


class Hub:
    """A hub at a queue: its host, and how often it was rung."""

    def __init__(self, database: Database, name: str, pace: Pace) -> None:
        self.database = database
        self.rung = threading.Event()
        self.store = Store(database, self.rung.set, pace)
        self.host = Host(name, "1")
        self.store.enlist(self.host, LEASE_SECONDS, version="0", settings="")

    def claim(self, count: int = 1, exits: Sequence[str] | None = None) -> list[Claimed]:
        """At most COUNT jobs, by workers w1, w2 and so on."""
        return list(self.look(count, exits).jobs)

    def look(self, count: int = 1, exits: Sequence[str] | None = None) -> Claims:
        """The same with the time of the next look."""
        return self.store.claim(self.host, [f"w{number + 1}" for number in range(count)], exits)

    def end(self, claimed: Claimed, outcome: Ending = "good", **more: Any) -> Taken:
        """Tell the end of one run."""
        return self.store.finish([ending(claimed, outcome, **more)])[0]

    def end_all(self, claimed: Sequence[Claimed]) -> None:
        """Tell the good end of each."""
        assert set(self.store.finish([ending(one) for one in claimed])) == {Taken.EFFECTIVE}


def ending(claimed: Claimed, outcome: Ending = "good", **more: Any) -> Finished:
    """The end of a run."""
    return Finished(job=claimed.job, fence=claimed.fence, outcome=outcome, **more)


class Queue:
    """A database with the queue's tables, and what a test sees in it by queries of its own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._opened: list[Database] = []
        self.database = self.open()

    def open(self, clock: str | None = None) -> Database:
        """Another process's view of the same database, with a CLOCK of its own."""
        made = Database(self.address, clock=clock or CLOCKS[sa.make_url(self.address).get_backend_name()])
        hasty(made)
        self._opened.append(made)
        return made

    def hub(self, name: str = "h1", pace: Pace = FREE, clock: str | None = None) -> Hub:
        """A hub with connections of its own; NAME enlists."""
        return Hub(self.open(clock), name, pace)

    def ahead(self, seconds: float) -> None:
        """Let SECONDS pass by the database's clock."""
        self.change(f"UPDATE test_clock SET ahead = ahead + {seconds}")

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What QUERY finds."""
        return self.database.run(lambda db: list(db.execute(sa.text(query), values)))

    def one(self, query: str, **values: Any) -> Any:
        """The one value that QUERY finds."""
        return self.rows(query, **values)[0][0]

    def change(self, statement: str) -> None:
        """Change something past the queue's own code."""
        self.database.run(lambda db: db.execute(sa.text(statement)))

    def close(self) -> None:
        """Let go of it."""
        for one in self._opened:
            one.close()


def make(address: str) -> None:
    """Give the database at ADDRESS the queue's tables, and a clock that can be set ahead."""
    queue = Queue(address)
    upgrade.upgrade(queue.database)
    queue.change("CREATE TABLE test_clock (ahead DOUBLE PRECISION NOT NULL)")
    queue.change("INSERT INTO test_clock VALUES (0)")
    queue.close()


def made_once(kind: str, folder: Path, server: Callable[[], Server]) -> Callable[[], str]:
    """Makes an address of an empty queue of its own at each call, all of them copies of one; KIND is the engine."""
    if kind == "postgresql":
        template = server().fresh()
        make(template)
        return lambda: server().fresh(str(sa.make_url(template).database))
    make(f"sqlite:///{folder}/template.db")
    numbers = itertools.count()

    def copied() -> str:
        path = folder / f"{next(numbers)}.db"
        shutil.copyfile(folder / "template.db", path)
        return f"sqlite:///{path}"

    return copied


def jobs(*sites: str, **more: Any) -> list[Job]:
    """A job for each of SITES."""
    return [Job(site=site, task="visit", **more) for site in sites]
