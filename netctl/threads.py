"""Blocking calls, of the kernel and of the key store, each under a deadline: one thread a kind, so that order is kept.

The kernel takes its locks inside the call: a thread that waits for rtnetlink's (somebody deletes a link that
does not go) cannot be interrupted, and would take the whole program with it if it were the only one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
P = TypeVar("P")
SWITCH_SECONDS = 0.0005
"""A thread whose call of the kernel has ended waits so long for the interpreter, where Python's 5 ms are a call's
own time ten times over."""


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Any], Any]
    """Given a list of payloads where there are any, else None."""
    payload: list[Any] | None
    answer: asyncio.Future[Any]
    given_up: bool = False


Outcome = tuple[_Job, Any, BaseException | None]
"""What a job came to: its result, or its error."""


class WorkThread:
    """One thread; what was given up while it ran is finished before the next begins, and its answer is nobody's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: deque[_Job | None] = deque()
        self._asked: list[_Job] = []
        self._thread: threading.Thread | None = None
        sys.setswitchinterval(SWITCH_SECONDS)

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """The result of WORK; raises asyncio.TimeoutError when it has not come within SECONDS.

        What has not begun by then, or when the caller is cancelled, does not begin.
        """
        return await self._ask(lambda _: work(), None, seconds)

    async def run_together(self, work: Callable[[Sequence[P]], T], payload: P, seconds: float) -> T:
        """As run(), of WORK over PAYLOAD and those of the same work that wait right behind it, in their order.

        All get the same result. Work that fails for many is done again for each, who then gets its own error.
        """
        return await self._ask(work, [payload], seconds)

    async def _ask(self, work: Callable[[Any], T], payload: list[Any] | None, seconds: float) -> T:
        if self._thread is None:
            # A daemon: a thread that the kernel keeps must not keep the program. It is of this thread's namespace.
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(work, payload, loop.create_future())
        # With all that is asked for in this turn of the loop: else the thread would begin with the first alone.
        self._asked.append(job)
        loop.call_soon(self._hand_over)
        # By hand and not through concurrent.futures: its locks and chained futures were a tenth of a rotation.
        late = loop.call_later(seconds, _settle, job, None, asyncio.TimeoutError())
        try:
            result: T = await job.answer
            return result
        finally:
            late.cancel()
            job.given_up = True  # unless it has begun

    def _hand_over(self) -> None:
        asked, self._asked = self._asked, []
        for job in asked:
            self._jobs.put(job)

    def close(self) -> None:
        """Let the thread end behind what it has to do."""
        self._hand_over()
        self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._waiting.popleft() if self._waiting else self._jobs.get()) is not None:
            together = [job]
            while job.payload is not None and self._follows(job):
                following = self._waiting.popleft()
                assert following is not None
                together.append(following)
            _tell(_done([one for one in together if not one.given_up]))

    def _follows(self, job: _Job) -> bool:
        """Whether what waits next is of JOB's work."""
        while not self._jobs.empty():
            self._waiting.append(self._jobs.get())
        return bool(self._waiting) and (first := self._waiting[0]) is not None and first.work == job.work


def _done(jobs: list[_Job]) -> list[Outcome]:
    if not jobs:
        return []
    payloads = [payload for job in jobs for payload in job.payload or ()]
    try:
        result = jobs[0].work(payloads)
    except BaseException as error:  # noqa: BLE001 - it is the caller's, who is in another thread
        if len(jobs) == 1:
            return [(jobs[0], None, error)]
        return [outcome for job in jobs for outcome in _done([job])]
    return [(job, result, None) for job in jobs]


def _tell(outcomes: list[Outcome]) -> None:
    """Those who wait, in their own thread; a loop that has ended has nobody who waits."""
    for loop, those in itertools.groupby(outcomes, key=lambda outcome: outcome[0].answer.get_loop()):
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle_all, list(those))


def _settle_all(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        _settle(*outcome)


def _settle(job: _Job, result: Any, error: BaseException | None) -> None:
    if job.answer.done():
        return
    if error is not None:
        job.answer.set_exception(error)
    else:
        job.answer.set_result(result)
