"""What each request of a worker does: it waits for a job, has one, and its end is written down.

A worker holds its job by its connection. One that hangs up, or asks for another, has lost it: its spool is looked at
first, for what was handed in counts. After a restart of the hub nobody is connected: then the next word of a worker
counts, and after ABSENT_SECONDS without one its job is lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from fleet import log
from fleet.errors import DatabaseFailed, NotAllowed
from fleet.model import Paths, Worker
from fleet.sockets.callers import Connection
from fleet.sockets.hub_api import MOST_FORGOTTEN, Finish, Ring, Take, Taken, Work
from fleet.sockets.wire import Done
from hub.queue.values import Claimed, Finished
from hub.queue.values import Taken as Became
from hub.spooled import Held, end_of

ABSENT_SECONDS = 900.0
"""Longer than a loop takes."""
RUN_SECONDS = 3600.0
"""After which a worker that still has its job has lost it: its site waits for nobody for ever."""
MOST_REST_SECONDS = 300.0
PROMPT_SECONDS = 5.0
"""How long a worker that does not want to wait waits for a database that is slow."""


@dataclass(slots=True, kw_only=True)
class Seat:
    """A worker, as the hub knows it."""

    worker: Worker
    connection: Connection | None = None
    held: Held | None = None
    work: Work | None = None
    """A job that it has not been told of yet."""
    waiting: asyncio.Future[None] | None = None
    patient: bool = False
    """It waits until there is one."""
    forget: dict[str, None] = field(default_factory=dict)
    """Pictures that it may take away, in their order."""
    told: set[str] = field(default_factory=set)
    """Those that it has been told of."""
    gone: bool = False
    """It has hung up, or was not heard of for too long."""
    since: float = 0.0
    """When it got its job."""
    lost: int = 0
    """Runs that it has lost in a row. Each makes its rest longer: it does not use up the attempts of all jobs."""
    rests_until: float = 0.0


class Queue(Protocol):
    """What the service needs of the hub."""

    async def finish(self, end: Finished) -> Became:
        """Write an end down."""

    async def ended(self, worker: Worker, asked: Held) -> bool:
        """Whether that run of WORKER has been written down."""

    async def forgotten(self, worker: Worker, names: Collection[str]) -> None:
        """WORKER has taken pictures away."""

    def look(self) -> None:
        """There may be a job for a worker that waits."""

    def heard(self) -> None:
        """Somebody else has changed the tables."""


class HubService:
    """A method for each row of fleet.sockets.hub_api.TABLE (fleet.sockets.rpc.Service)."""

    def __init__(self, paths: Paths, members: Iterable[Worker], queue: Queue) -> None:
        self._paths, self._queue = paths, queue
        self._log = log.get("hub")
        self.seats: Mapping[int, Seat] = {worker.uid: Seat(worker=worker) for worker in members}
        self.stopping = False
        """True: connections end because we do; what workers hold they go on with."""
        self.ends: list[Callable[[str, Finished], None]] = []
        """Who is told of each end, with the name of its worker."""

    def idle(self) -> list[str]:
        """The workers that wait for a job."""
        now = time.monotonic()
        waiting = [seat for seat in self.seats.values() if seat.waiting and not seat.held]
        return [seat.worker.name for seat in waiting if seat.rests_until <= now]

    def hand_out(self, claimed: Iterable[Claimed], asked: Collection[str]) -> list[Held]:
        """Give CLAIMED, what there was for ASKED, to its workers; the jobs whose worker is not there."""
        seats = {seat.worker.name: seat for seat in self.seats.values()}
        left = []
        for one in claimed:
            held = Held(job=one.job, fence=one.fence, claim=claim_of(one.job, one.fence, one.began_at))
            seat = seats[one.worker]
            if seat.held or seat.connection is None:
                left.append(held)
                if not seat.held:
                    self._rest(seat, lost=True)  # it hung up while its job was looked for
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
        """By worker, the NAMES of pictures that it may take away; who there is."""
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
            await self._queue.forgotten(seat.worker, gone)
            seat.told -= gone
        forget = tuple(islice(seat.forget, MOST_FORGOTTEN))
        if not (seat.work or forget):
            await self._wait(seat, request.seconds)
        work, seat.work = seat.work, None
        for name in forget:  # once: one that cannot take them away is not asked again and again
            seat.told.add(name)
            seat.forget.pop(name, None)
        return Taken(work=work, forget=forget)

    async def _wait(self, seat: Seat, seconds: float) -> None:
        waiting = seat.waiting = asyncio.get_running_loop().create_future()
        seat.patient = seconds > 0
        self._queue.look()
        try:
            await asyncio.wait({waiting}, timeout=seconds or PROMPT_SECONDS)  # then it asks again
        finally:
            if seat.waiting is waiting:
                seat.waiting = None

    async def finish(self, connection: Connection, request: Finish) -> Done:
        """The caller has handed in the result of its job."""
        seat = self.seats[connection.peer.uid]
        seat.connection = connection
        asked = Held(job=request.job, fence=request.fence, claim=seat.held.claim if seat.held else "")
        if seat.held == asked:
            await self._settle(seat, promised=True)
        elif not await self._queue.ended(seat.worker, asked):
            raise NotAllowed(f"{seat.worker.name} has no job {request.job}.{request.fence}")
        return Done()

    async def ring(self, _: Connection, __: Ring) -> Done:
        """Look at the queue."""
        self._queue.heard()
        return Done()

    async def closed(self, connection: Connection) -> None:
        """See fleet.sockets.rpc.Service: a worker that is gone has lost its job, unless it had handed in its result."""
        seat = self.seats.get(connection.peer.uid)
        if seat is None or self.stopping or seat.connection is not connection:
            return
        seat.connection = None
        seat.gone = True
        await self.settle_lost()

    def absent(self, uid: int) -> None:
        """The worker UID has not said a word since the hub began: what it held is lost, at the next settle_lost()."""
        self.seats[uid].gone = True

    async def settle_lost(self) -> None:
        """End the runs of workers that are gone or take too long; where the database fails, the next call does."""
        late = time.monotonic() - RUN_SECONDS
        for seat in self.seats.values():
            if seat.held and ((seat.gone and seat.connection is None) or seat.since < late):
                try:
                    await self._settle(seat, promised=False)
                except DatabaseFailed as error:
                    self._log.error("job.not_ended", worker=seat.worker.name, error=error.message)

    async def _settle(self, seat: Seat, *, promised: bool) -> None:
        """The run that SEAT holds has ended. Raises DatabaseFailed, and it is held as before."""
        held = seat.held
        assert held
        end = await asyncio.to_thread(end_of, self._paths, seat.worker, held, promised=promised)
        became = await self._queue.finish(end)
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
            asyncio.get_running_loop().call_later(seconds, self._queue.look)


def claim_of(job: int, fence: int, began_at: float) -> str:
    """What names a run among those of all queues: two of them do not begin in the same microsecond."""
    return f"{job}.{fence}.{began_at!r}"
