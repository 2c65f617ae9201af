"""Corrects for a database clock that was set back.

All due times use that clock. Set back by an hour, it would make every site rest for an hour, and a dead host live as
long. So each beat notes the latest time; if that is in the future, everything counted from it moves back as well.
Times with a date of their own (not before, cron, the beat of an interval) stay.
"""

from __future__ import annotations

import sqlalchemy as sa

from hub.queue import endings, locks
from hub.queue.politeness import set_back
from hub.queue.schema import READY, clock, hosts, jobs, outbox

TOLERANCE_SECONDS = 2.0
"""Two transactions may read the clock in one order and note it in the other."""
_LATEST = sa.select(clock.c.latest).with_for_update()
_NOTE = sa.update(clock).values(latest=sa.bindparam("now"))
_WERE_DUE = (
    sa.update(jobs)
    .where(jobs.c.state == READY, jobs.c.due_at > sa.bindparam("now"), jobs.c.due_at <= sa.bindparam("before"))
    .values(due_at=sa.bindparam("now"))
)
_LEASES = sa.update(hosts).values(until=hosts.c.until - sa.bindparam("seconds"))
_TRIES = sa.update(outbox).where(outbox.c.due_at > sa.bindparam("now")).values(due_at=sa.bindparam("now"))


def note(db: sa.Connection, now: float) -> None:
    """Note that it is NOW; if an earlier note is later, correct for the step."""
    latest = float(db.scalar(_LATEST) or 0.0)
    if now > latest:
        db.execute(_NOTE, {"now": now})
    elif latest - now > TOLERANCE_SECONDS:
        db.execute(_NOTE, {"now": now})
        db.execute(_LEASES, {"seconds": latest - now})
        db.execute(_TRIES, {"now": now})
        before = locks.lock(db, [site.name for site in locks.every(db)])
        db.execute(_WERE_DUE, {"now": now, "before": latest})
        endings.settle(db, before, {name: set_back(site, latest - now, now) for name, site in before.items()})
