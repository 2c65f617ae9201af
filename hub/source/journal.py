"""The state of each allocation, in the hub's database: a hub that dies between any two steps continues from there.

asked for   a key for the question is written before it is asked; repeated after a death, the server recognises it
taken       the job, and what the server sent, in one transaction that also ends the question
done        the run's end brings it into the outbox (hub.delivery.outbox), as for every target
put         the picture's address, as soon as its server has answered
answered    the allocation is removed; the outbox records that it was delivered
"""

from __future__ import annotations

import json
import secrets
from functools import partial

import sqlalchemy as sa
from pydantic import JsonValue

from fleet.db import Database
from fleet.outcomes import Ending
from hub.delivery.outbox import requeue
from hub.queue import adding, orders
from hub.queue.schema import READY, allocations, asks, jobs, pictures, runs
from hub.queue.store import Store, Turn
from hub.queue.values import Added, Job

SOURCE = "hub.source"
"""The target of its jobs; no target of [hub.targets] has a dot."""
_LAST = (
    sa.select(runs.c.outcome).where(runs.c.job == jobs.c.id).order_by(runs.c.fence.desc()).limit(1).scalar_subquery()
)
_LATE = (
    sa.select(jobs.c.id, _LAST.label("last"))
    .join(allocations, allocations.c.job == jobs.c.id)
    .where(allocations.c.host == sa.bindparam("own"), jobs.c.state == READY, jobs.c.until < sa.bindparam("now"))
)
_OPEN = (
    sa.select(sa.func.count())
    .select_from(allocations)
    .join(jobs, jobs.c.id == allocations.c.job)
    .where(allocations.c.host == sa.bindparam("own"), jobs.c.state != "aside")
)


class Journal:
    """The allocations of a host."""

    def __init__(self, database: Database, store: Store, host: str) -> None:
        self._database, self._store, self._host = database, store, host

    def room(self, most: int) -> int:
        """How many more allocations may be asked for; first ends those that waited too long."""

        def look(db: sa.Connection) -> tuple[list[tuple[int, Ending]], int]:
            rows = db.execute(_LATE, {"own": self._host, "now": self._database.now(db)})
            late: list[tuple[int, Ending]] = [(row.id, row.last or "failed") for row in rows]
            return late, int(db.scalar(_OPEN, {"own": self._host}) or 0)

        late, there = self._database.run(look, reading=True)
        for job, last in late:
            self._store.turn(partial(_end, job=job, outcome=last, why="it could not begin in time"))
        return most - there + len(late)

    def ask(self) -> str:
        """A key for the next question: the previous one if its answer was never read."""

        def work(db: sa.Connection) -> str:
            word = db.scalar(sa.select(asks.c.word).where(asks.c.host == self._host))
            if word is None:
                word = secrets.token_hex(16)
                db.execute(sa.insert(asks), {"host": self._host, "word": word})
            return str(word)

        return self._database.run(work)

    def nothing(self) -> None:
        """The answer was that there is nothing to do."""
        self._database.run(self._end_question)

    def take(self, name: str, said: JsonValue, job: Job, trouble: str | None) -> Added:
        """Turn the allocation NAME, which the server sent as SAID, into JOB; with TROUBLE it has failed already."""

        def work(turn: Turn) -> Added:
            self._end_question(turn.db)
            (receipt,) = adding.add(turn.db, [job], turn.pace, turn.now)
            state = turn.db.scalar(sa.select(jobs.c.state).where(jobs.c.id == receipt.job))
            if receipt.added is not Added.NEW and state in ("ready", "leased"):
                return receipt.added
            known = sa.select(allocations.c.job).where(allocations.c.job == receipt.job)
            if turn.db.scalar(known) is None:
                row = {"job": receipt.job, "name": name, "host": self._host, "said": json.dumps(said)}
                turn.db.execute(sa.insert(allocations), row)
            if receipt.added is not Added.NEW:
                requeue(turn.db, receipt.job, SOURCE, self._host, turn.now)
            elif trouble is not None:
                _end(turn, receipt.job, "failed", trouble)
            return receipt.added

        return self._store.turn(work)

    def allocation(self, job: int) -> tuple[str, JsonValue] | None:
        """Name and JSON of the allocation of JOB; None: it has been answered."""
        query = sa.select(allocations.c.name, allocations.c.said).where(allocations.c.job == job)
        row = self._database.run(lambda db: db.execute(query).one_or_none(), reading=True)
        return None if row is None else (row.name, json.loads(row.said))

    def put(self, job: int, fence: int, name: str, address: str) -> None:
        """Record that the picture NAME of a run has this ADDRESS."""
        self._database.run(
            lambda db: db.execute(sa.update(pictures).where(*_of(job, fence, name)).values(address=address))
        )

    def address(self, job: int, fence: int, name: str) -> str | None:
        """The recorded address of that picture."""
        query = sa.select(pictures.c.address).where(*_of(job, fence, name))
        return self._database.run(lambda db: db.scalar(query), reading=True)

    def answered(self, job: int) -> None:
        """Remove the allocation of JOB: it has been answered."""
        self._database.run(lambda db: db.execute(sa.delete(allocations).where(allocations.c.job == job)))

    def _end_question(self, db: sa.Connection) -> None:
        db.execute(sa.delete(asks).where(asks.c.host == self._host))


def _end(turn: Turn, job: int, outcome: Ending, why: str) -> None:
    orders.cancel(turn.db, [job], turn.now, turn.record, outcome=outcome, error=why)


def _of(job: int, fence: int, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (pictures.c.job == job, pictures.c.fence == fence, pictures.c.name == name)
