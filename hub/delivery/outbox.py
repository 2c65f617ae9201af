"""The outbox: one row for each run and target, written in the transaction of the run's end.

At least once: a row stays until its target has confirmed it, and a target recognises repeated ones by their run.
The pictures are on the host that made them, so that host's hub sends them. What a target refuses for good is set aside,
where a person sees it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import JsonValue

from fleet.backoff import back_off
from fleet.db import Database, among
from hub.queue.endings import Ended, Record
from hub.queue.schema import IDS, delivered, in_order, outbox, pictures, runs
from hub.queue.values import Picture, document, plain

BACK_OFF_SECONDS = 5.0
LONGEST_BACK_OFF_SECONDS = 900.0
_RUN = ("job", "fence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A run on its way to a target."""

    id: int
    target: str
    tries: int
    """Before this one."""
    job: int
    fence: int
    key: str | None
    site: str
    task: str
    arguments: Mapping[str, JsonValue]
    outcome: str
    worker: str | None
    exit: str | None
    began_at: float | None
    ended_at: float
    error: str | None
    answer: Mapping[str, JsonValue] | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a host must still send to a target."""

    target: str
    waiting: int
    oldest_seconds: float
    aside: int
    why: str | None
    """Why one of them has not arrived; None: none was tried yet."""


_MINE = (outbox.c.host == sa.bindparam("own"), outbox.c.aside == sa.false())
_DUE = (
    sa.select(
        outbox.c.id,
        outbox.c.target,
        outbox.c.tries,
        *(column for column in runs.c if column.name not in ("host", "details")),
    )
    .join(runs, sa.and_(*(outbox.c[name] == runs.c[name] for name in _RUN)))
    .where(*_MINE, outbox.c.due_at <= sa.bindparam("now"))
    .order_by(outbox.c.due_at)
    .limit(sa.bindparam("count"))
)
_NEXT = sa.select(sa.func.min(outbox.c.due_at)).where(*_MINE)
_PICTURES = sa.select(pictures).where(among(pictures.c.job, IDS)).order_by(*in_order)
_ONE = sa.select(*(outbox.c[name] for name in (*_RUN, "target", "tries"))).where(outbox.c.id == sa.bindparam("of"))
_GONE = sa.delete(outbox).where(outbox.c.id == sa.bindparam("of"))
_LATER = (
    sa.update(outbox)
    .where(outbox.c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(f"new_{name}") for name in ("due_at", "tries", "aside", "error")})
)


def recorder(host: str) -> Record:
    """Record what belongs to runs, in the transaction of their end; HOST must deliver it, because it has the pictures.

    A dead host delivers nothing: the host that finds its lost runs delivers them.
    """

    def record(db: sa.Connection, ended: Sequence[Ended], now: float) -> None:
        ids = [{"job": one.end.job, "fence": one.end.fence} for one in ended]
        shown = [run | asdict(picture) for run, one in zip(ids, ended, strict=True) for picture in one.end.pictures]
        if shown:
            db.execute(sa.insert(pictures), shown)
        send(db, [(one.end.job, one.end.fence, name) for one in ended for name in sorted(one.targets)], host, now)

    return record


def send(db: sa.Connection, what: Sequence[tuple[int, int, str]], host: str, now: float) -> None:
    """Queue these runs (job, fence) for their targets, from HOST, from NOW on."""
    new = {"host": host, "since": now, "due_at": now, "tries": 0, "aside": False}
    if what:
        rows = [{"job": job, "fence": fence, "target": target, **new} for job, fence, target in what]
        db.execute(sa.insert(outbox), rows)


def requeue(db: sa.Connection, job: int, target: str, host: str, now: float) -> None:
    """Send the last run of JOB to TARGET again now: the target no longer knows it."""
    if (fence := db.scalar(sa.select(sa.func.max(runs.c.fence)).where(runs.c.job == job))) is None:
        return
    row = {"job": job, "fence": fence, "target": target}
    for table in (outbox, delivered):
        db.execute(sa.delete(table).where(*(table.c[name] == value for name, value in row.items())))
    send(db, [(job, fence, target)], host, now)


class Outbox:
    """The outbox of HOST."""

    def __init__(self, database: Database, host: str) -> None:
        self._database = database
        self._host = host

    def due(self, count: int) -> tuple[list[Delivery], float | None]:
        """At most COUNT deliveries that are due, and seconds until the next one; None: there is none.

        They stay until arrived(), later() or refused(): only this host reads them, and sends each once at a time.
        """

        def work(db: sa.Connection) -> tuple[list[Delivery], float | None]:
            now = self._database.now(db)
            rows = db.execute(_DUE, {"own": self._host, "now": now, "count": count}).all()
            shown = _pictures(db, sorted({row.job for row in rows}))
            following = db.scalar(_NEXT, {"own": self._host})
            wait = None if following is None else max(0.0, following - now)
            return [_delivery(row, shown.get((row.job, row.fence), ())) for row in rows], wait

        return self._database.run(work, reading=True)

    def arrived(self, delivery: int, answer: Mapping[str, JsonValue] | None = None) -> None:
        """The target has it, and sent ANSWER (such as its address). Repeating this changes nothing."""

        def work(db: sa.Connection) -> None:
            row = db.execute(_ONE, {"of": delivery}).one_or_none()
            if row is not None and db.execute(_GONE, {"of": delivery}).rowcount:
                text = None if answer is None else document(answer)
                values = {"job": row.job, "fence": row.fence, "target": row.target, "at": self._database.now(db)}
                db.execute(sa.insert(delivered), {**values, "answer": text})

        self._database.run(work)

    def later(self, delivery: int, error: str, wait_seconds: float = 0.0) -> None:
        """It did not arrive, or that is unknown: retry, later each time, after at least WAIT_SECONDS."""
        self._change(delivery, error, wait_seconds, aside=False)

    def refused(self, delivery: int, error: str) -> None:
        """The target refuses it, and would again: set it aside."""
        self._change(delivery, error, 0.0, aside=True)

    def again(self) -> int:
        """Send everything that is set aside or waits for its next try again now; returns how many."""
        change = sa.update(outbox).where(outbox.c.host == self._host)

        def work(db: sa.Connection) -> int:
            return db.execute(change.values(aside=False, due_at=self._database.now(db))).rowcount

        return self._database.run(work)

    def backlog(self) -> list[Backlog]:
        """By target, what must still be sent."""
        waits = sa.case((outbox.c.aside, 0), else_=1)
        oldest = sa.func.min(sa.case((outbox.c.aside, None), else_=outbox.c.since))
        columns = (outbox.c.target, sa.func.sum(waits), oldest, sa.func.count(), sa.func.max(outbox.c.error))
        query = (
            sa.select(*columns).where(outbox.c.host == self._host).group_by(outbox.c.target).order_by(outbox.c.target)
        )

        def work(db: sa.Connection) -> list[Backlog]:
            now = self._database.now(db)
            return [
                Backlog(
                    target=target,
                    waiting=waiting,
                    oldest_seconds=0.0 if since is None else now - since,
                    aside=count - waiting,
                    why=why,
                )
                for target, waiting, since, count, why in db.execute(query)
            ]

        return self._database.run(work, reading=True)

    def _change(self, delivery: int, error: str, wait_seconds: float, *, aside: bool) -> None:
        def work(db: sa.Connection) -> None:
            row = db.execute(_ONE, {"of": delivery}).one_or_none()
            if row is not None:
                due_at = self._database.now(db) + max(
                    wait_seconds, back_off(row.tries + 1, BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS)
                )
                new = {"due_at": due_at, "tries": row.tries + 1, "aside": aside, "error": plain(error)}
                db.execute(_LATER, {"of": delivery, **{f"new_{name}": value for name, value in new.items()}})

        self._database.run(work)


def _pictures(db: sa.Connection, jobs: Sequence[int]) -> dict[tuple[int, int], tuple[Picture, ...]]:
    found: dict[tuple[int, int], tuple[Picture, ...]] = {}
    for row in db.execute(_PICTURES, {"ids": jobs}) if jobs else ():
        one = Picture(name=row.name, sha256=row.sha256, size_bytes=row.size_bytes)
        found[row.job, row.fence] = (*found.get((row.job, row.fence), ()), one)
    return found


def _delivery(row: Any, shown: tuple[Picture, ...]) -> Delivery:
    values = dict(row._mapping)
    for name in ("arguments", "answer"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Delivery(**values, pictures=shown)
