"""Tells a hub of work that another one has added or recovered: PostgreSQL's LISTEN, on a connection of its own.

With SQLite there is one hub, which rings itself. A notification is only a reason to look: after a lost connection one
ring replaces all that were missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from fleet.db import Database
from hub.queue.store import CHANNEL

LOOK_SECONDS = 1.0
"""The longest wait of close(), and the pause before the next try to connect."""


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
        """Stop listening."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        import psycopg  # takes a seventh of the hub's start, and SQLite does not need it

        while not self._closing.is_set():
            try:
                with self._database.engine.connect() as db:
                    self._listen(db)
            except (sa.exc.DBAPIError, psycopg.Error):
                self._closing.wait(LOOK_SECONDS)

    def _listen(self, db: sa.Connection) -> None:
        import psycopg

        own = db.connection.driver_connection
        db.detach()  # closed at the end: with its LISTEN it must not return to the pool
        assert isinstance(own, psycopg.Connection)
        own.autocommit = True
        own.execute(f"LISTEN {CHANNEL}")
        self._ring()
        while not self._closing.is_set():
            for _ in own.notifies(timeout=LOOK_SECONDS, stop_after=1):
                self._ring()
