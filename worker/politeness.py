"""How long a worker leaves a site alone that asked for it. The last result has the time, so a restart keeps it."""

from __future__ import annotations

from datetime import datetime, timezone

from fleet.errors import Answered
from fleet.result import MOST_REST_SECONDS, Result
from worker.answers import UNTOLD_SECONDS


def rest(answered: Answered | None, before: Result | None) -> float:
    """The seconds to wait after a `limited` loop: what the site asks for, else twice those of the loop BEFORE."""
    if answered is not None and (told := answered.retry_after_seconds) is not None:
        return told
    last = before.retry_after_seconds if before is not None and before.outcome == "limited" else None
    return min(MOST_REST_SECONDS, 2 * last) if last else UNTOLD_SECONDS


def seconds_left(before: Result | None, now: datetime | None = None) -> float:
    """What is left of the rest after the loop BEFORE; 0 when there was none; never more than the whole rest."""
    if before is None or before.outcome != "limited" or before.retry_after_seconds is None:
        return 0.0
    passed = ((now or datetime.now(timezone.utc)) - before.finished).total_seconds()
    return max(0.0, min(before.retry_after_seconds, MOST_REST_SECONDS) - max(0.0, passed))
