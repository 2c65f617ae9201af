"""How tests wait: for a condition, with a deadline; the failure shows what was seen last."""

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
USUAL_PAUSE_SECONDS = 0.05


def until(
    what: str,
    condition: Callable[[], T],
    timeout_seconds: float = 10,
    show: Callable[[], object] | None = None,
    pause_seconds: float = 0.01,
    *,
    longest_pause_seconds: float = 0.5,
) -> T:
    """The first true value of CONDITION; at the deadline the test fails with SHOW(), or with CONDITION's last value.

    Checking takes processor time from what is waited for. So the pause grows from PAUSE_SECONDS to
    USUAL_PAUSE_SECONDS, is at least as long as a check takes, and at most LONGEST_PAUSE_SECONDS.
    """
    growing = tenacity.wait_exponential(pause_seconds, USUAL_PAUSE_SECONDS, exp_base=1.5)

    def pause(state: tenacity.RetryCallState) -> float:
        look = ((state.seconds_since_start or 0) - state.idle_for) / state.attempt_number
        return max(pause_seconds, min(max(growing(state), look), longest_pause_seconds))

    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        stop=tenacity.stop_after_delay(timeout_seconds),
        wait=pause,
    )
    try:
        return waiting(condition)
    except tenacity.RetryError as error:
        last = show() if show else error.last_attempt.result()
        pytest.fail(f"{what}: not within {timeout_seconds:g} s, last seen {last!r}")


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """While entered, no thread of PIDS runs. SIGSTOP stops each thread only when it next runs, so all are waited for.

    A process that has ended by the end is ignored.
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
