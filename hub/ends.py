"""Writes ends of runs together: those that arrive while the database is busy become one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleet.errors import FleetError
from hub.delivery.sending import Do
from hub.queue.store import Store
from hub.queue.values import Finished, Taken


class Ends:
    """Writes into STORE through DO; calls WROTE after each transaction."""

    def __init__(self, store: Store, do: Do, wrote: Callable[[], None]) -> None:
        self._store, self._do, self._wrote = store, do, wrote
        self._waiting: list[tuple[Finished, asyncio.Future[Taken]]] = []

    async def finish(self, end: Finished) -> Taken:
        """How END was taken, once it is written. Raises DatabaseFailed."""
        told: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._waiting.append((end, told))
        if len(self._waiting) == 1:
            self._writing = asyncio.ensure_future(self._write())
        return await told

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
