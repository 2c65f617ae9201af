"""Chooses which jobs begin now, and for which workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence

import sqlalchemy as sa

from fleet.db import among
from hub.queue import locks, politeness
from hub.queue.locks import GROUP, ORDER, Group
from hub.queue.politeness import Head, Site
from hub.queue.schema import IDS, LEASED, READY, jobs
from hub.queue.values import ANYWHERE, Claimed, Claims

LOCKED_SECONDS = 0.05
"""Pause until the next look when another hub holds the awake sites, which takes it some milliseconds."""
FOREIGN_SECONDS = 1.0
"""The same when all awake jobs are for exits that this host does not have."""
_DETAILS = sa.select(jobs.c.id, jobs.c.fence, jobs.c.site, jobs.c.task, jobs.c.arguments, jobs.c.exit).where(
    among(jobs.c.id, IDS)
)
_MORE = (
    sa.select(jobs.c.id, jobs.c.due_at)
    .where(
        jobs.c.site == sa.bindparam("site"),
        jobs.c.state == READY,
        *(column == sa.bindparam(f"its_{column.name}") for column in GROUP),
    )
    .order_by(*ORDER)
    .limit(sa.bindparam("count"))
)
_LEASE = (
    sa.update(jobs)
    .where(jobs.c.id == sa.bindparam("of"), jobs.c.state == READY)
    .values(
        state=LEASED,
        fence=sa.bindparam("new_fence"),
        host=sa.bindparam("to_host"),
        worker=sa.bindparam("to_worker"),
        began_at=sa.bindparam("now"),
    )
)


def claim(
    db: sa.Connection,
    host: str,
    workers: Sequence[str],
    exits: Collection[str] | None,
    *,
    now: float,
    clock: Callable[[], float],
) -> Claims:
    """A job for each of WORKERS, as far as there are any; EXITS are those that HOST has, None: all."""
    offered = None if exits is None else {ANYWHERE, *exits}
    before = locks.awake(db, len(workers), now, offered)
    if before:
        # Read under the locks: an earlier time would date the runs before the ends that made room for them,
        # and let the next ones begin too early.
        now = clock()
    groups = locks.groups(db, before)
    chosen: list[int] = []
    after = []
    for site in before.values():
        picked, left = _pick(db, site, groups[site.name], count=len(workers) - len(chosen), offered=offered, now=now)
        chosen += picked
        begun = politeness.begun(site, len(picked), now) if picked else site
        after.append(politeness.alarm(begun, left))
    claimed = _lease(db, host, dict(zip(chosen, workers, strict=False)), now)
    locks.keep(db, before, after)
    if claimed and len(claimed) == len(workers):
        return Claims(jobs=claimed, next_seconds=0.0)
    return Claims(jobs=claimed, next_seconds=_next(db, offered, now))


def _next(db: sa.Connection, offered: Collection[str] | None, now: float) -> float | None:
    wake_at = locks.next_wake(db)
    if wake_at is None or wake_at > now:
        return None if wake_at is None else wake_at - now
    ours = offered is None or locks.is_awake_for(db, now, offered)
    return LOCKED_SECONDS if ours else FOREIGN_SECONDS


def _pick(
    db: sa.Connection, site: Site, groups: Sequence[Group], *, count: int, offered: Collection[str] | None, now: float
) -> tuple[list[int], list[Head]]:
    """At most COUNT jobs of SITE, the best first, and the heads that remain."""
    missing = min(count, site.at_once)
    picked: list[int] = []
    left: list[Head] = []
    for group in sorted(groups, key=lambda one: (one.priority, one.due_at, one.id)):
        due_at: float | None = group.due_at
        if missing and group.due_at <= now and (offered is None or group.exit in offered):
            for job, due_at in _members(db, group, missing):
                picked.append(job)
                missing -= 1
                if not missing or due_at is None or due_at > now:
                    break
        if due_at is not None:
            left.append(Head(due_at, group.priority))
    return picked, left


def _members(db: sa.Connection, group: Group, count: int) -> Iterator[tuple[int, float | None]]:
    """The first COUNT jobs of GROUP, each with the due time of the next."""
    if count == 1 or group.next_due_at is None:
        yield group.id, group.next_due_at
        return
    its = {f"its_{column.name}": getattr(group, column.name) for column in GROUP}
    rows = db.execute(_MORE, {"site": group.site, "count": count + 1, **its}).all()
    for (job, _), following in zip(rows[:count], [*rows[1:], None], strict=False):
        yield job, None if following is None else following.due_at


def _lease(db: sa.Connection, host: str, to: dict[int, str], now: float) -> tuple[Claimed, ...]:
    if not to:
        return ()
    found = {row.id: row for row in db.execute(_DETAILS, {"ids": sorted(to)})}
    claimed = tuple(
        Claimed(
            job=job,
            fence=found[job].fence + 1,
            site=found[job].site,
            task=found[job].task,
            arguments=json.loads(found[job].arguments),
            exit=found[job].exit,
            worker=worker,
            began_at=now,
        )
        for job, worker in to.items()
    )
    changes = [
        {"of": one.job, "new_fence": one.fence, "to_host": host, "to_worker": one.worker, "now": now}
        for one in sorted(claimed, key=lambda one: one.job)
    ]
    changed = db.execute(_LEASE, changes).rowcount
    assert changed == len(changes), "a job changed while its site was locked"
    return claimed
