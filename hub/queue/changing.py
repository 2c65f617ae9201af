"""Changes a job in the queue under its key; its history continues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from hub.queue import adding, locks
from hub.queue.endings import settle
from hub.queue.rests import READY
from hub.queue.schema import jobs
from hub.queue.values import Job, Pace

_BEAT = ("interval_seconds", "cron", "zone")
_SAME = ("site", "task", "arguments", "priority", "exit", "same_exit", "targets", "attempts", *_BEAT)
_CHANGE = sa.update(jobs).where(jobs.c.id == sa.bindparam("of"))


def differences(there: Mapping[str, Any], wanted: Job) -> list[str]:
    """The columns in which the job THERE (a row with decoded JSON) differs from WANTED."""
    row = adding.row_of(wanted, 0.0)
    row |= {name: json.loads(row[name]) for name in ("arguments", "targets")}
    if there["same_exit"] and wanted.same_exit:
        row["exit"] = there["exit"]  # the exit of its first run
    return [name for name in _SAME if there[name] != row[name]]


def change(db: sa.Connection, number: int, to: Job, pace: Pace, now: float) -> bool:
    """Turn the job NUMBER into TO; a job that was set aside becomes ready. A run in progress continues as it began.

    False: it no longer exists, or it runs and would change its site.
    """
    adding.make_sites(db, {to.site}, pace)
    there = sa.select(jobs).where(jobs.c.id == number)
    of = db.scalar(sa.select(jobs.c.site).where(jobs.c.id == number))
    before = locks.lock(db, {to.site, *([of] if of else ())})
    row = db.execute(there).one_or_none()
    if row is None or (row.state == "leased" and row.site != to.site):
        return False
    new = adding.row_of(to, now)
    values = {name: new[name] for name in (*_SAME, "until")}
    if row.same_exit and to.same_exit:
        values.pop("exit")
    if row.state != "leased":
        values |= {"state": READY, "attempts_left": to.attempts}
        if row.state != READY or any(getattr(row, name) != new[name] for name in _BEAT):
            values |= {name: new[name] for name in ("scheduled_at", "due_at")}
    db.execute(_CHANGE.values(values), {"of": number})
    settle(db, before, before)
    return True
