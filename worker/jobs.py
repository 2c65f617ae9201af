"""Gets jobs from the hub. A job belongs to the worker's connection: a worker that hangs up loses it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from fleet import log
from fleet.backoff import back_off
from fleet.errors import FleetError, TryLater
from fleet.sockets.client import Client
from fleet.sockets.hub_api import TAKE_SECONDS, Finish, Take, Taken, Work
from fleet.sockets.wire import Done, ReplyT

_ANSWER_SECONDS = 60.0
_AGAIN_SECONDS = (0.05, 5.0)
"""The pause after the first failure, and the longest."""
_log = log.get("worker")


class Jobs(AbstractContextManager["Jobs"]):
    """Its exit hangs up. ONLY: this worker does nothing but jobs."""

    def __init__(self, socket: Path, *, only: bool, forget: Callable[[str], bool]) -> None:
        """FORGET deletes a file that is no longer wanted, and returns whether it is gone."""
        self._forget, self._forgotten = forget, tuple[str, ...]()
        self._client = Client(socket, timeout_seconds=TAKE_SECONDS + _ANSWER_SECONDS)
        self._only = only

    def take(self, seconds: float) -> Work | None:
        """Wait for a job; returns None after SECONDS without one, or never if ONLY is set."""
        for tries in itertools.count():
            try:
                while True:
                    most = TAKE_SECONDS if self._only else min(seconds, TAKE_SECONDS)
                    taken = self._ask(Take(seconds=most, forgotten=self._forgotten), Taken)
                    self._forgotten = tuple(filter(self._forget, taken.forget))
                    work = taken.work
                    if taken.forget and not work:
                        continue
                    if work or not self._only:
                        return work
            except TryLater as error:
                self._client.close()
                if not self._only:
                    rest(seconds)
                    return None
                if tries == 0:
                    _log.warning("hub.away", reason=str(error))
            rest(back_off(tries + 1, *_AGAIN_SECONDS))
        raise AssertionError("counting ends")

    def finish(self, work: Work) -> None:
        """Report that the result of WORK is in the spool; waits for the hub, however long it is away."""
        for tries in itertools.count():
            try:
                self._ask(Finish(job=work.job, fence=work.fence), Done)
                return
            except TryLater as error:
                self._client.close()
                if tries == 0:
                    _log.warning("hub.away", reason=str(error))
            except FleetError as error:
                # The hub reads the spool itself before it gives this worker another job.
                _log.error("job.not_finished", job=work.job, reason=str(error))
                return
            rest(back_off(tries + 1, *_AGAIN_SECONDS))

    def _ask(self, request: Take | Finish, kind: type[ReplyT]) -> ReplyT:
        if self._client.fileno() < 0:
            self._client.open()
        return self._client.ask(request, kind)

    def __exit__(self, *_: object) -> None:
        self._client.close()


def rest(seconds: float) -> None:
    """Wait; SIGTERM ends the wait."""
    if seconds > 0:
        threading.Event().wait(seconds)  # nothing sets it
