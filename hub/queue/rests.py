"""Decides what a job does after a run: it leaves, becomes ready again, or is set aside. Pure."""

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
    """The state of a job after a run, if it stays."""

    state: str
    scheduled_at: float
    due_at: float
    attempts_left: int
    unfinished: bool = False
    """The same is tried again: that run was not the answer."""


def rest(row: Any, outcome: Ending, wait_seconds: float | None, now: float) -> Rest | None:
    """The state of the job of ROW after a run ended with OUTCOME; None: it leaves."""
    if row.cancelled:
        return None
    if outcome == "limited":
        pause = min(max(wait_seconds or 0.0, BACK_OFF_SECONDS), politeness.LONGEST_REST_SECONDS)
        if _in_time(row, now + pause):
            return Rest(READY, row.scheduled_at, now + pause, row.attempts_left, unfinished=True)
    left = row.attempts_left - 1
    trouble = outcome in ("failed", "lost")
    if trouble and left > 0:
        # A run lost with its host is retried at once: the job is probably not the cause.
        pause = 0.0 if outcome == "lost" else back_off(row.attempts - left, BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS)
        if _in_time(row, now + pause):
            return Rest(READY, row.scheduled_at, now + pause, left, unfinished=True)
    try:
        if (repeat := _repeat_of(row)) is not None:
            due_at = repeat.after(row.scheduled_at, now)
            return Rest(READY, due_at, due_at, row.attempts)
    except ValueError:
        # This host lacks its zone, or it never comes again: a person must look, and other ends must not wait for that.
        trouble = True
    # A caller that waits for an answer (`until`) has one now: nothing is left for a person to decide.
    return Rest(SPENT, row.scheduled_at, row.due_at, 0) if trouble and row.until is None else None


def _in_time(row: Any, due_at: float) -> bool:
    return row.until is None or bool(due_at <= row.until)


def _repeat_of(row: Any) -> Repeat | None:
    if row.cron is not None:
        return Cron(row.cron, row.zone)
    return None if row.interval_seconds is None else Interval(row.interval_seconds)
