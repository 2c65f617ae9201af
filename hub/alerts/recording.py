"""The states of rules in the hub's database, changed in the transaction that ends a run, with the messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from fleet import log
from fleet.db import Database
from fleet.settings.alerts import AlertSettings
from hub.alerts.rules import AGAIN, State, concerns, heard
from hub.delivery.outbox import send
from hub.queue.endings import Ended, Record
from hub.queue.schema import alerts, jobs, outbox

CARRIER, LOOKER = "hub.alert", "hub.picture"
_ONE = (alerts.c.rule == sa.bindparam("of_rule"), alerts.c.job == sa.bindparam("of_job"))
_STATE = sa.select(alerts.c.state).where(*_ONE)
_CHANGE = sa.update(alerts).where(*_ONE)
Step = tuple[State | None, State, str | None]
"""The state before and after, and what to report; None: nothing."""
_OPEN = alerts.c.raised == sa.true()


def recorder(rules: Mapping[str, AlertSettings], host: str, first: Record) -> Record:
    """Record what FIRST records, then what RULES make of the runs; HOST sends the messages."""
    if not rules:
        return first

    def record(db: sa.Connection, ended: Sequence[Ended], now: float) -> None:
        first(db, ended, now)
        for one in ended:
            for name, rule in rules.items():
                if not concerns(rule, one.run):
                    continue
                if rule.when != "picture":
                    _hear(db, (name, rule), one, host, now)
                elif one.end.outcome == "good" and one.end.pictures:  # compared later, because that takes time
                    send(db, [(one.end.job, one.end.fence, f"{LOOKER}:{name}")], host, now)

    return record


def _hear(db: sa.Connection, named: tuple[str, AlertSettings], one: Ended, host: str, now: float) -> None:
    name, rule = named
    job, fence = int(one.run["job"]), int(one.run["fence"])
    before = known(db, name, job)
    answer = None if one.end.answer is None else dict(one.end.answer)
    told = {**one.run, "answer": answer, "arguments": json.loads(one.run["arguments"])}
    try:
        after, what = heard(rule, before or State(), told, one.end.exit or "")
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        # A worker may report anything: no rule may stop the end of a run.
        log.get("hub").exception("alert.not_judged", alert=name, job=job, fence=fence)
        return
    change(db, named, (job, fence, host), (before, after, what), now)


def known(db: sa.Connection, rule: str, job: int) -> State | None:
    """The state of RULE and JOB; None: nothing yet."""
    text = db.scalar(_STATE, {"of_rule": rule, "of_job": job})
    return None if text is None else _read(text)


def change(
    db: sa.Connection, named: tuple[str, AlertSettings], run: tuple[int, int, str], step: Step, now: float
) -> None:
    """Record STEP of the named rule and the job of RUN (job, fence, host)."""
    (name, rule), (job, fence, host), (before, after, what) = named, run, step
    if after != (before or State()) or what:
        values: dict[str, Any] = {"state": _text(after), "raised": after.raised}
        if what or before is None:
            values |= {"fence": fence, "since": now, "told_at": now, "told": 0, "handled": False, "host": host}
        if before is None:
            db.execute(sa.insert(alerts), {"rule": name, "job": job, **values})
        else:
            db.execute(_CHANGE.values(values), {"of_rule": name, "of_job": job})
    if what:
        send(db, [(job, fence, _target(name, what, target)) for target in rule.targets], host, now)


def remind(database: Database, rules: Mapping[str, AlertSettings], host: str) -> int:
    """Repeat the messages of HOST's alerts that last and that nobody has handled; returns how many."""
    repeated = {name: rule for name, rule in rules.items() if rule.repeat_minutes}
    there = sa.exists().where(jobs.c.id == alerts.c.job)
    # While a message waits for its target, no repetition is added.
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
    """The alerts that last, the newest first."""
    query = sa.select(alerts).where(_OPEN).order_by(alerts.c.since.desc(), alerts.c.rule, alerts.c.job)
    return [dict(row._mapping) for row in database.run(lambda db: db.execute(query).all(), reading=True)]


def handle(database: Database, rule: str, job: int) -> bool:
    """Mark the alert as handled: the next message is its end. Whether there is such an alert."""
    query = _CHANGE.where(_OPEN).values(handled=True)
    return bool(database.run(lambda db: db.execute(query, {"of_rule": rule, "of_job": job}).rowcount))


def _target(rule: str, what: str, target: str) -> str:
    return f"{CARRIER}:{rule}:{what}:{target}"


def _text(state: State) -> str:
    """STATE without its defaults, so that releases before picture rules can read it too."""
    return json.dumps({name: value for name, value in asdict(state).items() if value != getattr(State(), name)})


def _read(text: str) -> State:
    kept = json.loads(text)
    return State(**{**kept, **{name: tuple(map(tuple, kept.get(name, ()))) for name in ("recent", "shown")}})
