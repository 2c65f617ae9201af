"""Blocking calls to the kernel and to the key store, each with a deadline; one thread per kind keeps their order.

The kernel takes its locks inside the call. A thread that waits for the rtnetlink lock (because a link that is being
deleted does not go away) cannot be interrupted; if it were the only thread, the whole program would hang.
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
"""How long a thread whose system call has returned waits for the interpreter lock. Python's default, 5 ms, is ten
times as long as such a call."""


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[Any], Any]
    """Called with the list of payloads of the jobs run together, or with an empty list."""
    payload: list[Any] | None
    answer: asyncio.Future[Any]
    given_up: bool = False


Outcome = tuple[_Job, Any, BaseException | None]
"""A job with its result or its error."""


class WorkThread:
    """One thread that runs calls in order.

    A call whose caller timed out still runs to its end before the next starts; its result is discarded.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: deque[_Job | None] = deque()
        self._asked: list[_Job] = []
        self._thread: threading.Thread | None = None
        sys.setswitchinterval(SWITCH_SECONDS)

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """Run WORK in the thread and return its result; raises asyncio.TimeoutError after SECONDS.

        Work that has not started by then, or when the caller is cancelled, is not started.
        """
        return await self._ask(lambda _: work(), None, seconds)

    async def run_together(self, work: Callable[[Sequence[P]], T], payload: P, seconds: float) -> T:
        """As run(), but WORK gets PAYLOAD and the payloads queued directly after it for the same WORK, in one call.

        All callers get the same result. If the joint call fails, WORK is called again for each payload alone, so that
        each caller gets its own result or error.
        """
        return await self._ask(work, [payload], seconds)

    async def _ask(self, work: Callable[[Any], T], payload: list[Any] | None, seconds: float) -> T:
        if self._thread is None:
            # A daemon: a thread stuck in the kernel must not keep the program from ending. The thread inherits the
            # network namespace of the thread that starts it.
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(work, payload, loop.create_future())
        # Hand over all jobs of this turn of the loop at once: else the thread would start with the first one alone.
        self._asked.append(job)
        loop.call_soon(self._hand_over)
        # Not through concurrent.futures: its locks and chained futures took a tenth of the time of a rotation.
        late = loop.call_later(seconds, _settle, job, None, asyncio.TimeoutError())
        try:
            result: T = await job.answer
            return result
        finally:
            late.cancel()
            job.given_up = True  # has no effect once the job has started

    def _hand_over(self) -> None:
        asked, self._asked = self._asked, []
        for job in asked:
            self._jobs.put(job)

    def close(self) -> None:
        """Let the thread end after the jobs that are queued."""
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
        """Whether the next queued job has the same work as JOB."""
        while not self._jobs.empty():
            self._waiting.append(self._jobs.get())
        return bool(self._waiting) and (first := self._waiting[0]) is not None and first.work == job.work


def _done(jobs: list[_Job]) -> list[Outcome]:
    if not jobs:
        return []
    payloads = [payload for job in jobs for payload in job.payload or ()]
    try:
        result = jobs[0].work(payloads)
    except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
        if len(jobs) == 1:
            return [(jobs[0], None, error)]
        return [outcome for job in jobs for outcome in _done([job])]
    return [(job, result, None) for job in jobs]


def _tell(outcomes: list[Outcome]) -> None:
    """Pass OUTCOMES to the waiting callers, each in the thread of its event loop; a closed loop has no caller left."""
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
