"""The order of locks, and what is read under them.

Sites first, by name; nothing else is locked after that: a transaction that holds a site's row may change its jobs. The
queries pick ids, and changes go by primary key. Each query has one text, for any number of sites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from fleet.db import Many, among
from hub.queue.politeness import Head, Site
from hub.queue.schema import NAMES, READY, jobs, sites

_COLUMNS = [sites.c[one.name] for one in fields(Site)]
_EXITS = sa.bindparam("exits", type_=Many(sa.Text))
_PRIORITIES = (0, 1, 2)

# No key of a site's row changes, so a transaction that only refers to the row does not wait for it.
_LOCK = sa.select(*_COLUMNS).where(among(sites.c.name, NAMES)).order_by(sites.c.name).with_for_update(key_share=True)
_ALL = sa.select(*_COLUMNS).order_by(sites.c.name)
_LOOK_AT_ALL = (
    sa.select(*_COLUMNS)
    .where(sites.c.priority == sa.bindparam("priority"), sites.c.wake_at <= sa.bindparam("now"))
    .order_by(sites.c.wake_at)
    .limit(sa.bindparam("count"))
)
# Not EXISTS: PostgreSQL would turn it into a join, and read all sites before it takes the first.
_FOR_US = (
    sa.select(jobs.c.id)
    .where(
        jobs.c.site == sites.c.name,
        jobs.c.state == READY,
        among(jobs.c.exit, _EXITS),
        jobs.c.priority.in_([sa.literal_column(str(one)) for one in _PRIORITIES]),
        jobs.c.due_at <= sa.bindparam("now"),
    )
    .limit(1)
    .correlate(sites)
    .scalar_subquery()
)
_LOOK = _LOOK_AT_ALL.where(_FOR_US.is_not(None))
_AWAKE, _AWAKE_FOR_US = (one.with_for_update(key_share=True, skip_locked=True) for one in (_LOOK_AT_ALL, _LOOK))
_NEXT = sa.select(
    *(
        sa.select(sa.func.min(sites.c.wake_at)).where(sites.c.priority == sa.literal_column(str(one))).scalar_subquery()
        for one in _PRIORITIES
    )
)
_KEEP = (
    sa.update(sites)
    .where(sites.c.name == sa.bindparam("of"))
    .values({column.name: sa.bindparam(f"new_{column.name}") for column in _COLUMNS if column.name != "name"})
)

GROUP = (jobs.c.exit, jobs.c.priority)
ORDER = (jobs.c.due_at, jobs.c.id)


class Group(NamedTuple):
    """The ready jobs of a site with one exit and one priority: the first, and when the second is due."""

    id: int
    site: str
    exit: str
    priority: int
    due_at: float
    next_due_at: float | None


def _heads() -> sa.Select[tuple[int, str, str, int, float, float]]:
    """The first job of each group: one index lookup for each, whatever lies in between."""
    first, head, later, second = (jobs.alias(name) for name in ("first", "head", "later", "second"))

    def sort(one: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        return [one.c[column.name] for column in (*GROUP, *ORDER)]

    def found(one: sa.FromClause, *where: sa.ColumnElement[bool]) -> sa.Select[tuple[int]]:
        return sa.select(one.c.id).where(one.c.state == READY, *where).order_by(*sort(one)).limit(1)

    start = found(first, first.c.site == sites.c.name).scalar_subquery()
    chain = sa.select(start.label("id")).where(among(sites.c.name, NAMES)).cte("chain", recursive=True)
    # Two lookups: of two columns that are compared as a pair, SQLite uses only the first.
    jumps = [
        (later.c.site == head.c.site, later.c.exit == head.c.exit, later.c.priority > head.c.priority),
        (later.c.site == head.c.site, later.c.exit > head.c.exit),
    ]
    step = sa.func.coalesce(*(found(later, *where).correlate(head).scalar_subquery() for where in jumps))
    chain = chain.union_all(sa.select(step).select_from(chain.join(head, head.c.id == chain.c.id)))
    same = (
        second.c.site == head.c.site,
        second.c.exit == head.c.exit,
        second.c.priority == head.c.priority,
        sa.tuple_(second.c.due_at, second.c.id) > sa.tuple_(head.c.due_at, head.c.id),
    )
    behind = sa.select(second.c.due_at).where(second.c.state == READY, *same).order_by(*sort(second)[2:]).limit(1)
    columns = (head.c.id, head.c.site, head.c.exit, head.c.priority, head.c.due_at)
    query = sa.select(*columns, behind.correlate(head).scalar_subquery().label("next_due_at"))
    return query.select_from(chain.join(head, head.c.id == chain.c.id))


_HEADS = _heads()


def lock(db: sa.Connection, names: Iterable[str]) -> dict[str, Site]:
    """The existing sites of NAMES, locked until the transaction ends."""
    return {row.name: Site(**row._mapping) for row in db.execute(_LOCK, {"names": sorted(set(names))})}


def every(db: sa.Connection) -> list[Site]:
    """All sites by name, not locked."""
    return [Site(**row._mapping) for row in db.execute(_ALL)]


def awake(db: sa.Connection, count: int, now: float, exits: Collection[str] | None) -> dict[str, Site]:
    """At most COUNT sites that have a job which can begin NOW, by priority, then by waiting time; locked.

    With EXITS only those with a job for one of them. Sites that another hub holds are left out.
    """
    found: dict[str, Site] = {}
    query, given = (_AWAKE, {}) if exits is None else (_AWAKE_FOR_US, {"exits": sorted(exits)})
    for priority in _PRIORITIES:
        if missing := count - len(found):
            values = {"priority": priority, "now": now, "count": missing, **given}
            found |= {row.name: Site(**row._mapping) for row in db.execute(query, values)}
    return found


def is_awake_for(db: sa.Connection, now: float, exits: Collection[str]) -> bool:
    """Whether a site has a job for one of EXITS that can begin NOW, locked or not."""
    given = {"now": now, "count": 1, "exits": sorted(exits)}
    return any(db.execute(_LOOK, {"priority": priority, **given}).first() for priority in _PRIORITIES)


def next_wake(db: sa.Connection) -> float | None:
    """When the next site wakes, past or future."""
    return min((at for at in db.execute(_NEXT).one() if at is not None), default=None)


def groups(db: sa.Connection, names: Iterable[str]) -> dict[str, list[Group]]:
    """By site, the groups of its ready jobs."""
    found: dict[str, list[Group]] = {name: [] for name in names}
    if found:
        for row in db.execute(_HEADS, {"names": sorted(found)}):
            found[row.site].append(Group(**row._mapping))
    return found


def heads(db: sa.Connection, names: Iterable[str]) -> dict[str, list[Head]]:
    """By site, the heads of its groups, which set its wake-up time."""
    found = groups(db, names)
    return {name: [Head(one.due_at, one.priority) for one in of_site] for name, of_site in found.items()}


def keep(db: sa.Connection, before: Mapping[str, Site], after: Iterable[Site]) -> None:
    """Write the sites of AFTER that differ from BEFORE."""
    changed = [site for site in after if before[site.name] != site]
    if changed:
        rows = [{f"new_{name}": value for name, value in asdict(site).items()} | {"of": site.name} for site in changed]
        db.execute(_KEEP, rows)
