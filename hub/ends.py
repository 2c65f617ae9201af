"""Writes ends of runs together: those that arrive while the database is busy become one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from fleet.db import Database
from fleet.errors import FleetError
from fleet.model import Worker
from hub.delivery.sending import Do
from hub.queue import reading
from hub.queue.expiry import forget
from hub.queue.store import Store
from hub.queue.values import Finished, Taken
from hub.spooled import Held


class Ends:
    """Writes into STORE through DO; calls WROTE after each transaction. DATABASE has the earlier ends of HOST."""

    def __init__(self, store: Store, do: Do, wrote: Callable[[], None], database: Database, host: str) -> None:
        self._store, self._do, self._wrote, self._database, self._host = store, do, wrote, database, host
        self._waiting: list[tuple[Finished, asyncio.Future[Taken]]] = []

    async def finish(self, end: Finished) -> Taken:
        """How END was taken, once it is written. Raises DatabaseFailed."""
        told: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append((end, told))
        if len(self._waiting) == 1:
            self._writing = asyncio.ensure_future(self._write())
        return await told

    async def ended(self, worker: Worker, asked: Held) -> bool:
        """Whether the end of that run of WORKER is in the database. Raises DatabaseFailed."""
        runs = await self._do(lambda: reading.runs_of(self._database, asked.job))
        return any((run["fence"], run["worker"]) == (asked.fence, worker.name) for run in runs)

    async def forgotten(self, worker: Worker, names: Collection[str]) -> None:
        """Record that WORKER has removed pictures. Raises DatabaseFailed."""
        await self._do(lambda: self._database.run(lambda db: forget(db, self._host, worker.name, names)))

    async def _write(self) -> None:
        await self._do(lambda: None)  # after the database's current work
        ends, self._waiting = self._waiting, []
        try:
            taken = await self._do(lambda: self._store.finish([end for end, _ in ends]))
        except FleetError as error:
            for _, told in ends:
                if not told.done():
                    told.set_exception(error)
            return
        self._wrote()
        for (_, told), became in zip(ends, taken, strict=True):
            if not told.done():  # else its worker has hung up
                told.set_result(became)
