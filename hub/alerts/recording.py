"""The states of rules in the hub's database, changed in the transaction that ends a run, with the words that go out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from fleet import log
from fleet.alert_settings import AlertSettings
from fleet.db import Database
from hub.alerts.rules import AGAIN, State, concerns, heard
from hub.outbox import send
from hub.queue.endings import Ended, Record
from hub.queue.schema import alerts, jobs, outbox

CARRIER = "hub.alert"
_ONE = (alerts.c.rule == sa.bindparam("of_rule"), alerts.c.job == sa.bindparam("of_job"))
_STATE = sa.select(alerts.c.state).where(*_ONE)
_CHANGE = sa.update(alerts).where(*_ONE)
_OPEN = alerts.c.raised == sa.true()


def recorder(rules: Mapping[str, AlertSettings], host: str, first: Record) -> Record:
    """What FIRST writes down, and then what RULES make of runs; HOST tells of it."""
    if not rules:
        return first

    def record(db: sa.Connection, ended: Sequence[Ended], now: float) -> None:
        first(db, ended, now)
        for one in ended:
            for name, rule in rules.items():
                if concerns(rule, one.run):
                    _hear(db, (name, rule), one, host, now)

    return record


def _hear(db: sa.Connection, named: tuple[str, AlertSettings], one: Ended, host: str, now: float) -> None:
    name, rule = named
    job, fence = int(one.run["job"]), int(one.run["fence"])
    before = db.scalar(_STATE, {"of_rule": name, "of_job": job})
    state = State() if before is None else _read(before)
    answer = None if one.end.answer is None else dict(one.end.answer)
    told = {**one.run, "answer": answer, "arguments": json.loads(one.run["arguments"])}
    try:
        after, what = heard(rule, state, told, one.end.exit or "")
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        # A worker may say anything: the end of a run waits for no rule.
        log.get("hub").exception("alert.not_judged", alert=name, job=job, fence=fence)
        return
    if after != state or what:
        values: dict[str, Any] = {"state": json.dumps(asdict(after)), "raised": after.raised}
        if what:
            values |= {"fence": fence, "since": now, "told_at": now, "told": 0, "handled": False, "host": host}
        if before is None:
            new = {"fence": fence, "since": now, "told_at": now, "told": 0, "handled": False, "host": host}
            db.execute(sa.insert(alerts), {"rule": name, "job": job, **new, **values})
        else:
            db.execute(_CHANGE.values(values), {"of_rule": name, "of_job": job})
    if what:
        send(db, [(job, fence, _target(name, what, target)) for target in rule.targets], host, now)


def remind(database: Database, rules: Mapping[str, AlertSettings], host: str) -> int:
    """Tell again of what HOST has told of, lasts, and nobody has handled; of how much."""
    repeated = {name: rule for name, rule in rules.items() if rule.repeat_minutes}
    there = sa.exists().where(jobs.c.id == alerts.c.job)
    # A target that is away is not told of it once more for each time.
    waits = sa.exists().where(
        outbox.c.job == alerts.c.job, outbox.c.fence == alerts.c.fence, outbox.c.target.startswith(f"{CARRIER}:")
    )
    query = sa.select(alerts).where(_OPEN, there, ~waits, alerts.c.handled == sa.false(), alerts.c.host == host)

    def work(db: sa.Connection) -> int:
        now, count = database.now(db), 0
        for row in db.execute(query).all():
            rule = repeated.get(row.rule)
            if rule is None or now - row.told_at < 60 * rule.repeat_minutes:
                continue
            number = row.told + 1
            names = [_target(row.rule, f"{AGAIN}-{number}", target) for target in rule.targets]
            send(db, [(row.job, row.fence, target) for target in names], host, now)
            of = {"of_rule": row.rule, "of_job": row.job}
            db.execute(_CHANGE.values(told_at=now, told=number), of)
            count += 1
        return count

    return database.run(work) if repeated else 0


def open_ones(database: Database) -> list[Mapping[str, Any]]:
    """Those that last, the newest first."""
    query = sa.select(alerts).where(_OPEN).order_by(alerts.c.since.desc(), alerts.c.rule, alerts.c.job)
    return [dict(row._mapping) for row in database.run(lambda db: db.execute(query).all(), reading=True)]


def handle(database: Database, rule: str, job: int) -> bool:
    """Somebody sees to it: it is told of again only when it is over. Whether there is such a one."""
    change = _CHANGE.where(_OPEN).values(handled=True)
    return bool(database.run(lambda db: db.execute(change, {"of_rule": rule, "of_job": job}).rowcount))


def _target(rule: str, what: str, target: str) -> str:
    return f"{CARRIER}:{rule}:{what}:{target}"


def _read(text: str) -> State:
    known = json.loads(text)
    return State(**{**known, "recent": tuple((one, what) for one, what in known["recent"])})
