"""The start gate: at most as many browser starts at once on this host as there are lock files.

Eight Chromes that start together on two cores take longer than eight in pairs, and each risks its
time-out. A lock is a flock: it ends with its holder, however that ends. `fleet up` makes the files.

Who waits stands in a queue first, a lock of its own, and only the queue's head looks for a free place:
with everybody looking, the unlucky one waited for minutes while others passed again and again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import tenacity

from fleet import lockfile
from fleet.errors import Unavailable

QUEUE = "queue"
"""Beside the lock files."""


@contextlib.contextmanager
def pass_through(folder: Path, *, seconds: float) -> Iterator[None]:
    """Hold one of FOLDER's places; waits up to SECONDS for one, then raises Unavailable.

    A folder without lock files is an open gate.
    """
    places = sorted(folder.glob("*.lock"))
    if not places:
        yield
        return
    with _head_of(folder / QUEUE, seconds):
        descriptor = _take(places, seconds)
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _head_of(queue: Path, seconds: float) -> Iterator[None]:
    """Wait in QUEUE, at most SECONDS, and hold up the others until left.

    flock(2) knows no deadline, so a thread of its own waits: a worker that was frozen at the head would
    keep every neighbour's browser from starting, for ever.
    """
    if not queue.exists():
        yield
        return
    turn = _Turn(os.open(queue, os.O_RDWR | os.O_CLOEXEC))
    try:
        if not turn.came.wait(seconds):
            raise Unavailable(f"the queue for browser starts did not move for {seconds:g} s")
        yield
    finally:
        turn.leave()


class _Turn:
    """A place in the queue: its thread waits for the lock, and gives it up at once when we have left."""

    def __init__(self, descriptor: int) -> None:
        self.came = threading.Event()
        self._left = threading.Event()
        self._descriptor = descriptor
        threading.Thread(target=self._wait, name="gate", daemon=True).start()

    def _wait(self) -> None:
        lockfile.wait(self._descriptor)
        self.came.set()
        self._left.wait()
        os.close(self._descriptor)

    def leave(self) -> None:
        """The queue moves on."""
        self._left.set()


def _take(places: list[Path], seconds: float) -> int:
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(0.02),  # no call waits on several locks at once
        retry=tenacity.retry_if_result(lambda descriptor: descriptor is None),
    )
    try:
        descriptor = retrying(_try, places)
    except tenacity.RetryError:
        raise Unavailable(f"all {len(places)} places for browser starts were taken for {seconds:g} s") from None
    assert descriptor is not None
    return descriptor


def _try(places: list[Path]) -> int | None:
    for place in places:
        descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
        if lockfile.take(descriptor):
            return descriptor
        os.close(descriptor)
    return None
