"""This host among those that share a queue: it enters the list of hosts, reports that it lives, and takes up or gives
back the jobs that are leased to it.
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
from hub.service import ABSENT_SECONDS, HubService, held_of
from hub.spooled import Held

LEASE_SECONDS = 30.0


class Hosting:
    """The host NAME in STORE, through DO, with the workers of SERVICE; all hosts need the same SETTINGS."""

    def __init__(self, name: str, store: Store, do: Do, service: HubService, *, settings: str) -> None:
        self._store, self._do, self._service, self._settings = store, do, service, settings
        self._log = log.get("hub")
        self.host = Host(name, secrets.token_hex(8))

    async def begin(self) -> None:
        """Join, and take up what workers still have. Raises ConfigurationError, DatabaseFailed."""
        await self._enlist()
        await self._adopt(at_start=True)

    async def rest(self) -> None:
        """Wait until the next beat."""
        await asyncio.sleep(LEASE_SECONDS / 3)

    async def beat(self) -> None:
        """Report that this host lives, and recover jobs of dead hosts. Raises HostFenced, DatabaseFailed."""
        await self._do(lambda: self._store.beat(self.host, LEASE_SECONDS))
        await self._do(self._store.recover)

    async def look_after(self) -> None:
        """Give back leased jobs that never reached a worker, and those of absent workers. Raises DatabaseFailed."""
        await self._adopt(at_start=False)
        await self._service.settle_lost()

    async def again(self) -> None:
        """Begin another life, because this host was declared dead: other hosts may have its workers' jobs by now."""
        self._log.warning("host.fenced", host=self.host.name)
        self.host = Host(self.host.name, secrets.token_hex(8))
        try:
            await self._enlist()
        except DatabaseFailed as error:
            self._log.error("database.failed", error=error.message)

    async def give_back(self, jobs: Iterable[Held]) -> None:
        """End these runs as lost: no worker here has them."""
        if ends := [Finished(job=one.job, fence=one.fence, outcome="lost") for one in jobs]:
            await self._do(lambda: self._store.finish(ends))

    async def retire(self) -> None:
        """Leave the list, unless a worker still has a job."""
        if not any(seat.held for seat in self._service.seats.values()):
            await self._do(lambda: self._store.retire(self.host))

    async def _enlist(self) -> None:
        named = {"version": VERSION, "settings": self._settings}
        await self._do(lambda: self._store.enlist(self.host, LEASE_SECONDS, **named))

    async def _adopt(self, *, at_start: bool) -> None:
        """Take jobs that are leased to this host, but that no seat holds: from an earlier life, or of a claim whose
        answer was lost. At the start their workers may still have them; later no worker was told of them.
        """
        seats = {seat.worker.name: seat for seat in self._service.seats.values()}
        before = {seat.held for seat in seats.values()}
        found = await self._do(lambda: self._store.held(self.host))
        lost = []
        for job, (fence, worker, _, began_at) in found.items():
            held = held_of(job, fence, began_at)
            seat = seats.get(worker)
            if at_start and seat is not None and seat.held is None:
                seat.held, seat.since = held, time.monotonic()
                asyncio.get_running_loop().call_later(ABSENT_SECONDS, self._service.absent, seat.worker.uid)
            elif held not in before and all(held != one.held for one in seats.values()):
                lost.append(held)
        await self.give_back(lost)
