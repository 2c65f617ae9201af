"""What becomes of a job after a run of it: it leaves, is ready once more, or lies aside. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from fleet.backoff import back_off
from fleet.outcomes import Ending
from hub.queue import politeness
from hub.queue.repeat import Cron, Interval, Repeat

BACK_OFF_SECONDS = 30.0
LONGEST_BACK_OFF_SECONDS = 3600.0
READY, SPENT = "ready", "aside"


class Rest(NamedTuple):
    """What a job is after a run, where it stays."""

    state: str
    scheduled_at: float
    due_at: float
    attempts_left: int
    unfinished: bool = False
    """The same is tried once more: that run was not the answer."""


def rest(row: Any, outcome: Ending, wait_seconds: float | None, now: float) -> Rest | None:
    """What becomes of the job of ROW after a run of it ended with OUTCOME; None: it leaves."""
    if row.cancelled:
        return None
    if outcome == "limited":
        pause = min(max(wait_seconds or 0.0, BACK_OFF_SECONDS), politeness.LONGEST_REST_SECONDS)
        if _in_time(row, now + pause):
            return Rest(READY, row.scheduled_at, now + pause, row.attempts_left, unfinished=True)
    left = row.attempts_left - 1
    trouble = outcome in ("failed", "lost")
    if trouble and left > 0:
        # What was lost with its host begins at once: it is not known to be at fault.
        pause = 0.0 if outcome == "lost" else back_off(row.attempts - left, BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS)
        if _in_time(row, now + pause):
            return Rest(READY, row.scheduled_at, now + pause, left, unfinished=True)
    try:
        if (repeat := _repeat_of(row)) is not None:
            due_at = repeat.after(row.scheduled_at, now)
            return Rest(READY, due_at, due_at, row.attempts)
    except ValueError:
        # Its zone is not on this host, or it never comes again: a person has to look, and no other end waits for that.
        trouble = True
    # Who waits for an answer has it then: nothing is left for a person to decide.
    return Rest(SPENT, row.scheduled_at, row.due_at, 0) if trouble and row.until is None else None


def _in_time(row: Any, due_at: float) -> bool:
    return row.until is None or bool(due_at <= row.until)


def _repeat_of(row: Any) -> Repeat | None:
    if row.cron is not None:
        return Cron(row.cron, row.zone)
    return None if row.interval_seconds is None else Interval(row.interval_seconds)
