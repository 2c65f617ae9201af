"""How tests wait: for the thing itself, until a deadline whose failure tells what was seen last."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import tenacity

T = TypeVar("T")


def until(
    what: str,
    condition: Callable[[], T],
    timeout_seconds: float = 10,
    show: Callable[[], object] | None = None,
    pause_seconds: float = 0.01,
) -> T:
    """The first true value of CONDITION; the test fails with what SHOW gives, or with CONDITION's last value."""
    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        stop=tenacity.stop_after_delay(timeout_seconds),
        wait=tenacity.wait_fixed(pause_seconds),
    )
    try:
        return waiting(condition)
    except tenacity.RetryError as error:
        last = show() if show else error.last_attempt.result()
        pytest.fail(f"{what}: not within {timeout_seconds:g} s, last seen {last!r}")


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """While entered, no thread of PIDS runs: SIGSTOP is sent at once, and takes hold of each thread when it next runs.

    One that has ended meanwhile is left out.
    """

    def states(pid: int) -> set[str]:
        stats = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat"))
        return {stat.rpartition(")")[2].split()[0] for stat in stats}

    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        until("all threads stand still", partial(lambda pid: states(pid) <= {"T"}, pid))
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
