"""How tests wait: for the thing itself, until a deadline whose failure tells what was seen last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import tenacity

T = TypeVar("T")


def until(
    what: str, condition: Callable[[], T], timeout_seconds: float = 10, show: Callable[[], object] | None = None
) -> T:
    """The first true value of CONDITION; the test fails with what SHOW gives, or with CONDITION's last value."""
    waiting = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda found: not found),
        stop=tenacity.stop_after_delay(timeout_seconds),
        wait=tenacity.wait_fixed(0.01),
    )
    try:
        return waiting(condition)
    except tenacity.RetryError as error:
        last = show() if show else error.last_attempt.result()
        pytest.fail(f"{what}: not within {timeout_seconds:g} s, last seen {last!r}")


def stopped(pid: int) -> bool:
    """Whether every thread of PID is stopped: SIGSTOP is sent at once and takes hold of each when it next runs."""
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return set(states) == {"T"}
