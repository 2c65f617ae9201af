"""How hubs hear of work that another one has added or recovered: PostgreSQL's LISTEN, on a connection of its own.

With SQLite there is one hub, which rings itself. A notification is a reason to look, no message: what was missed while
the connection was away is made up for by a ring after it is back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from fleet.db import Database
from hub.queue.store import CHANNEL

LOOK_SECONDS = 1.0
"""How long close() waits at most, and how long it is until the next try to connect."""


class Notices:
    """Calls RING for each notification of DATABASE until it is closed."""

    def __init__(self, database: Database, ring: Callable[[], None]) -> None:
        self._database = database
        self._ring = ring
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="notices", daemon=True)
        if database.name == "postgresql":
            self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        import psycopg  # a seventh of the hub's start, and of no use to SQLite

        while not self._closing.is_set():
            try:
                with self._database.engine.connect() as db:
                    self._listen(db)
            except (sa.exc.DBAPIError, psycopg.Error):
                self._closing.wait(LOOK_SECONDS)

    def _listen(self, db: sa.Connection) -> None:
        import psycopg

        own = db.connection.driver_connection
        db.detach()  # it is closed at the end, and not used by anybody else with its LISTEN
        assert isinstance(own, psycopg.Connection)
        own.autocommit = True
        own.execute(f"LISTEN {CHANNEL}")
        self._ring()
        while not self._closing.is_set():
            for _ in own.notifies(timeout=LOOK_SECONDS, stop_after=1):
                self._ring()
