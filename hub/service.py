"""The requests of workers: a worker waits for a job, has one, and reports its end.

A worker holds its job by its connection. A worker that hangs up, or asks for another job, has lost it; but first the
hub checks its spool, because a stored result counts. After a restart of the hub no worker is connected: then the
worker's next request counts, and after ABSENT_SECONDS without one its job is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice

from fleet import log
from fleet.errors import DatabaseFailed, NotAllowed
from fleet.model import Paths, Worker
from fleet.sockets.callers import Connection
from fleet.sockets.hub_api import MOST_FORGOTTEN, Finish, Ring, Take, Taken, Work
from fleet.sockets.wire import Done
from hub.ends import Ends
from hub.queue.values import Claimed, Finished
from hub.queue.values import Taken as Became
from hub.spooled import Held, end_of

ABSENT_SECONDS = 900.0
"""Longer than a loop takes."""
RUN_SECONDS = 3600.0
"""After this time a worker that still has its job has lost it: no site waits for it for ever."""
MOST_REST_SECONDS = 300.0
PROMPT_SECONDS = 5.0
"""How long a request that does not want to wait for a job waits for a slow database."""


@dataclass(slots=True, kw_only=True)
class Seat:
    """A worker, as the hub knows it."""

    worker: Worker
    connection: Connection | None = None
    held: Held | None = None
    work: Work | None = None
    """A job that it has not received yet."""
    waiting: asyncio.Future[None] | None = None
    patient: bool = False
    """Whether it waits until there is one."""
    forget: dict[str, None] = field(default_factory=dict)
    """Pictures that it may remove, in order."""
    told: set[str] = field(default_factory=set)
    """Pictures that it was told to remove."""
    gone: bool = False
    """Whether it hung up, or was silent for too long."""
    since: float = 0.0
    """When it got its job."""
    lost: int = 0
    """Runs lost in a row. Each makes its rest longer, so that it does not use up the attempts of all jobs."""
    rests_until: float = 0.0


class HubService:
    """A method for each row of fleet.sockets.hub_api.TABLE (fleet.sockets.rpc.Service)."""

    def __init__(
        self,
        paths: Paths,
        members: Iterable[Worker],
        written: Ends,
        *,
        look: Callable[[], None],
        heard: Callable[[], None],
    ) -> None:
        """LOOK: there may be a job for a worker that waits. HEARD: another program has changed the tables."""
        self._paths, self._written, self._look, self._heard = paths, written, look, heard
        self._log = log.get("hub")
        self.seats: Mapping[int, Seat] = {worker.uid: Seat(worker=worker) for worker in members}
        self.stopping = False
        """True: connections end because the hub stops; workers keep their jobs."""
        self.ends: list[Callable[[str, Finished], None]] = []
        """Called for each end, with the name of its worker."""

    def idle(self) -> list[str]:
        """Names of the workers that wait for a job."""
        now = time.monotonic()
        waiting = [seat for seat in self.seats.values() if seat.waiting and not seat.held]
        return [seat.worker.name for seat in waiting if seat.rests_until <= now]

    def hand_out(self, claimed: Iterable[Claimed], asked: Collection[str]) -> list[Held]:
        """Give CLAIMED, the jobs for ASKED, to its workers; returns the jobs whose worker is gone."""
        seats = {seat.worker.name: seat for seat in self.seats.values()}
        left = []
        for one in claimed:
            held = held_of(one.job, one.fence, one.began_at)
            seat = seats[one.worker]
            if seat.held or seat.connection is None:
                left.append(held)
                if not seat.held:
                    self._rest(seat, lost=True)  # it hung up while the hub claimed its job
                continue
            seat.held, seat.since = held, time.monotonic()
            named = {"job": one.job, "fence": one.fence, "claim": held.claim}
            seat.work = Work(**named, task=one.task, arguments=dict(one.arguments), exit=one.exit)
            self._log.info("job.begun", worker=one.worker, job=one.job, fence=one.fence, site=one.site, task=one.task)
        for seat in seats.values():
            told = seat.work or (seat.worker.name in asked and not seat.patient)
            if told and seat.waiting and not seat.waiting.done():
                seat.waiting.set_result(None)
        return left

    def forget(self, names: Mapping[str, Iterable[str]]) -> Set[str]:
        """Set, by worker, the NAMES of pictures that it may remove; returns the names of all workers."""
        for seat in self.seats.values():
            seat.forget, seat.told = dict.fromkeys(names.get(seat.worker.name, ())), set()
        return {seat.worker.name for seat in self.seats.values()}

    # --- requests

    async def take(self, connection: Connection, request: Take) -> Taken:
        """A job for the caller, as soon as there is one."""
        seat = self.seats[connection.peer.uid]
        seat.connection = connection
        if seat.held and not seat.work:
            await self._settle(seat, promised=False)
        if gone := seat.told.intersection(request.forgotten):
            await self._written.forgotten(seat.worker, gone)
            seat.told -= gone
        forget = tuple(islice(seat.forget, MOST_FORGOTTEN))
        if not (seat.work or forget):
            await self._wait(seat, request.seconds)
        work, seat.work = seat.work, None
        for name in forget:  # told once: a worker that cannot remove them is not asked again and again
            seat.told.add(name)
            seat.forget.pop(name, None)
        return Taken(work=work, forget=forget)

    async def _wait(self, seat: Seat, seconds: float) -> None:
        waiting = seat.waiting = asyncio.get_running_loop().create_future()
        seat.patient = seconds > 0
        self._look()
        try:
            await asyncio.wait({waiting}, timeout=seconds or PROMPT_SECONDS)  # then it asks again
        finally:
            if seat.waiting is waiting:
                seat.waiting = None

    async def finish(self, connection: Connection, request: Finish) -> Done:
        """The caller has stored the result of its job."""
        seat = self.seats[connection.peer.uid]
        seat.connection = connection
        asked = Held(job=request.job, fence=request.fence, claim=seat.held.claim if seat.held else "")
        if seat.held == asked:
            await self._settle(seat, promised=True)
        elif not await self._written.ended(seat.worker, asked):
            raise NotAllowed(f"{seat.worker.name} has no job {request.job}.{request.fence}")
        return Done()

    async def ring(self, _: Connection, __: Ring) -> Done:
        """Look at the queue."""
        self._heard()
        return Done()

    async def closed(self, connection: Connection) -> None:
        """See fleet.sockets.rpc.Service: a worker that hangs up has lost its job, unless its result is stored."""
        seat = self.seats.get(connection.peer.uid)
        if seat is None or self.stopping or seat.connection is not connection:
            return
        seat.connection = None
        seat.gone = True
        await self.settle_lost()

    def absent(self, uid: int) -> None:
        """Mark the worker UID, silent since the hub started, as gone: settle_lost() then ends what it held."""
        self.seats[uid].gone = True

    async def settle_lost(self) -> None:
        """End the runs of workers that are gone or take too long; after a database error the next call does."""
        late = time.monotonic() - RUN_SECONDS
        for seat in self.seats.values():
            if seat.held and ((seat.gone and seat.connection is None) or seat.since < late):
                try:
                    await self._settle(seat, promised=False)
                except DatabaseFailed as error:
                    self._log.error("job.not_ended", worker=seat.worker.name, error=error.message)

    async def _settle(self, seat: Seat, *, promised: bool) -> None:
        """End the run that SEAT holds. Raises DatabaseFailed; then the seat still holds it."""
        held = seat.held
        assert held
        end = await asyncio.to_thread(end_of, self._paths, seat.worker, held, promised=promised)
        became = await self._written.finish(end)
        for told in self.ends if became is Became.EFFECTIVE else ():
            told(seat.worker.name, end)
        if seat.held == held:
            seat.held = seat.work = None
            self._rest(seat, lost=end.outcome == "lost")
        self._log.info(
            "job.ended",
            worker=seat.worker.name,
            job=held.job,
            fence=held.fence,
            outcome=end.outcome,
            became=became.value,
        )

    def _rest(self, seat: Seat, *, lost: bool) -> None:
        seat.lost = seat.lost + 1 if lost else 0
        seconds = min(2.0 ** (seat.lost - 1), MOST_REST_SECONDS) if lost else 0.0
        seat.rests_until = time.monotonic() + seconds
        if lost:
            asyncio.get_running_loop().call_later(seconds, self._look)


def held_of(job: int, fence: int, began_at: float) -> Held:
    """Its claim is the name of a run among those of all queues: no two begin in the same microsecond."""
    return Held(job=job, fence=fence, claim=f"{job}.{fence}.{began_at!r}")
