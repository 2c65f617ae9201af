"""What this host is to the others that share a queue: it is on their list, says that it lives, and takes up or gives
back the jobs that stand there under its name.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable

from fleet import VERSION, log
from fleet.errors import DatabaseFailed
from hub.delivery.sending import Do
from hub.queue.store import Host, Store
from hub.queue.values import Finished
from hub.service import ABSENT_SECONDS, HubService, claim_of
from hub.spooled import Held

LEASE_SECONDS = 30.0


class Hosting:
    """The host NAME in STORE, where DO asks it, with the workers of SERVICE; SETTINGS has to be that of the others."""

    def __init__(self, name: str, store: Store, do: Do, service: HubService, *, settings: str) -> None:
        self._store, self._do, self._service, self._settings = store, do, service, settings
        self._log = log.get("hub")
        self.host = Host(name, secrets.token_hex(8))

    async def begin(self) -> None:
        """Join, and take up what workers still have. Raises ConfigurationError, DatabaseFailed."""
        await self._enlist()
        await self._adopt(at_start=True)

    async def rest(self) -> None:
        """Until the next beat."""
        await asyncio.sleep(LEASE_SECONDS / 3)

    async def beat(self) -> None:
        """Say that this host lives, and look after those that do not. Raises HostFenced, DatabaseFailed."""
        await self._do(lambda: self._store.beat(self.host, LEASE_SECONDS))
        await self._do(self._store.recover)

    async def look_after(self) -> None:
        """What was leased and has not arrived, and who is gone, is given back. Raises DatabaseFailed."""
        await self._adopt(at_start=False)
        await self._service.settle_lost()

    async def again(self) -> None:
        """This host was taken for dead: it begins another life. What its workers have is others' by now."""
        self._log.warning("host.fenced", host=self.host.name)
        self.host = Host(self.host.name, secrets.token_hex(8))
        try:
            await self._enlist()
        except DatabaseFailed as error:
            self._log.error("database.failed", error=error.message)

    async def give_back(self, jobs: Iterable[Held]) -> None:
        """Nobody here has them."""
        if ends := [Finished(job=one.job, fence=one.fence, outcome="lost") for one in jobs]:
            await self._do(lambda: self._store.finish(ends))

    async def retire(self) -> None:
        """Leave, unless a worker goes on with a job."""
        if not any(seat.held for seat in self._service.seats.values()):
            await self._do(lambda: self._store.retire(self.host))

    async def _enlist(self) -> None:
        named = {"version": VERSION, "settings": self._settings}
        await self._do(lambda: self._store.enlist(self.host, LEASE_SECONDS, **named))

    async def _adopt(self, *, at_start: bool) -> None:
        """Jobs that are leased to this host, and that no seat holds: from an earlier life, or of a claim whose answer
        was lost. At the start they are their workers'; later nobody has been told of them.
        """
        seats = {seat.worker.name: seat for seat in self._service.seats.values()}
        before = {seat.held for seat in seats.values()}
        found = await self._do(lambda: self._store.held(self.host))
        lost = []
        for job, (fence, worker, _, began_at) in found.items():
            held = Held(job=job, fence=fence, claim=claim_of(job, fence, began_at))
            seat = seats.get(worker)
            if at_start and seat is not None and seat.held is None:
                seat.held, seat.since = held, time.monotonic()
                asyncio.get_running_loop().call_later(ABSENT_SECONDS, self._service.absent, seat.worker.uid)
            elif held not in before and all(held != one.held for one in seats.values()):
                lost.append(held)
        await self.give_back(lost)
