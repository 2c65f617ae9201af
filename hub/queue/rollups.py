"""Counts of ended runs by minute, hour and day, site and outcome, so that charts never read the whole history.

Counted in the transaction that ends the runs. That transaction holds its sites' rows, so two of them cannot deadlock on
the counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fleet.db import Many
from hub.queue.schema import rollups

SPANS = {"minute": 60, "hour": 3600, "day": 86_400}
KEPT_DAYS = {"minute": 2.0, "hour": 90.0}
"""Counts by day stay as long as runs do."""
_KEY = ("span_seconds", "begins_at", "site", "outcome")
_NAMES = [column.name for column in rollups.c]


def _counted(new: postgresql.Insert | sqlite.Insert) -> postgresql.Insert | sqlite.Insert:
    more = {name: rollups.c[name] + new.excluded[name] for name in ("runs", "seconds")}
    return new.on_conflict_do_update(index_elements=_KEY, set_=more)


def _in_one() -> postgresql.Insert | sqlite.Insert:
    """All rows in one statement: one statement per row costs PostgreSQL and its client three times as much."""
    columns = [sa.bindparam(column.name, type_=Many(type(column.type))) for column in rollups.c]
    of_all = sa.func.unnest(*columns).table_valued(*_NAMES, name="new").render_derived()
    return _counted(postgresql.insert(rollups).from_select(_NAMES, sa.select(*of_all.c)))


_OF_MANY, _OF_ONE = _in_one(), _counted(sqlite.insert(rollups))
_OLDEST = sa.select(sa.func.min(rollups.c.begins_at)).where(rollups.c.span_seconds == sa.bindparam("span"))
_DROP = sa.delete(rollups).where(
    rollups.c.span_seconds == sa.bindparam("span"), rollups.c.begins_at == sa.bindparam("start")
)
_SINCE = (rollups.c.span_seconds == sa.bindparam("span"), rollups.c.begins_at >= sa.bindparam("since"))


@dataclass(frozen=True, slots=True)
class Count:
    """The runs of a span with OUTCOME: their number and their total seconds."""

    begins_at: int
    outcome: str
    runs: int
    seconds: float


def add(db: sa.Connection, ended: Iterable[Mapping[str, Any]]) -> None:
    """Count ended runs, given as rows."""
    found: dict[tuple[int, int, str, str], list[float]] = {}
    for run in ended:
        seconds = 0.0 if run["began_at"] is None else max(0.0, run["ended_at"] - run["began_at"])
        for span in SPANS.values():
            key = (span, int(run["ended_at"] // span) * span, run["site"], run["outcome"])
            sums = found.setdefault(key, [0, 0.0])
            sums[0] += 1
            sums[1] += seconds
    rows = [(*key, *sums) for key, sums in sorted(found.items())]
    if rows and db.dialect.name == "postgresql":
        db.execute(_OF_MANY, dict(zip(_NAMES, map(list, zip(*rows, strict=True)), strict=True)))
    elif rows:
        db.execute(_OF_ONE, [dict(zip(_NAMES, row, strict=True)) for row in rows])


def counts(db: sa.Connection, span: str, since: float, site: str | None = None) -> list[Count]:
    """The counts of each SPAN since the one that contains SINCE, the oldest first; of all sites, or of SITE."""
    sums = (sa.func.sum(rollups.c.runs), sa.func.sum(rollups.c.seconds))
    by = (rollups.c.begins_at, rollups.c.outcome)
    query = sa.select(*by, *sums).where(*_SINCE).group_by(*by).order_by(*by)
    values: dict[str, Any] = {"span": SPANS[span], "since": since - since % SPANS[span]}
    if site is not None:
        query, values = query.where(rollups.c.site == sa.bindparam("site")), {**values, "site": site}
    return [Count(int(row[0]), row[1], int(row[2]), float(row[3])) for row in db.execute(query, values)]


def drop(db: sa.Connection, span: str, before: float) -> int:
    """Delete the oldest SPAN if it ended BEFORE; returns how many rows that were."""
    oldest = db.scalar(_OLDEST, {"span": SPANS[span]})
    if oldest is None or oldest + SPANS[span] > before:
        return 0
    return db.execute(_DROP, {"span": SPANS[span], "start": oldest}).rowcount
