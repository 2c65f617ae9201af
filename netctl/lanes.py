"""Blocking calls of the kernel, each under a deadline: one thread a kind, so that order is kept.

The kernel takes its locks inside the call: a thread that waits for rtnetlink's (somebody deletes a link that
does not go) cannot be interrupted, and would take the whole program with it if it were the only one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "Future[Any]"]


class Lane:
    """One thread; what was given up while it ran is finished before the next begins, and its answer is nobody's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """The result of WORK; raises asyncio.TimeoutError when it has not come within SECONDS.

        What has not begun by then, or when the caller is cancelled, does not begin.
        """
        if self._thread is None:
            # A daemon: a thread that the kernel keeps must not keep the program. It is of this thread's namespace.
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        job: Future[T] = Future()
        self._jobs.put((work, job))
        answer = asyncio.wrap_future(job)
        try:
            done, _ = await asyncio.wait({answer}, timeout=seconds)
        finally:
            answer.cancel()  # and with it the job, unless it has begun
        if not done:
            raise asyncio.TimeoutError
        return answer.result()

    def close(self) -> None:
        """Let the thread end behind what it has to do."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while (given := self._jobs.get()) is not None:
            work, job = given
            if not job.set_running_or_notify_cancel():
                continue
            try:
                job.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, who is in another thread
                job.set_exception(error)
