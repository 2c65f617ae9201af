"""Compares the pictures of runs with earlier ones, for rules about pictures.

A comparison is a delivery of the outbox, to the target `hub.picture:RULE`: it delays no worker, and is repeated after a
crash. The new state of the rule and its messages are written in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from fleet import log, visible
from fleet.db import Database
from fleet.outside.calls import Later, Refused
from fleet.settings.alerts import AlertSettings
from hub.alerts.processes import asked
from hub.alerts.recording import change, known
from hub.alerts.rules import HAPPENED, UNREAD, State, heard
from hub.delivery.outbox import Delivery
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Do

_SECONDS = 60.0
"""Wall clock time, for a busy machine; the limit of processor time is shorter (hub.alerts.difference)."""
_MOST_EXITS = 100
"""The most exits of a job whose reference picture is kept."""


class Comparing:
    """Compares pictures for RULES; they are on HOST."""

    def __init__(
        self, rules: Mapping[str, AlertSettings], host: str, pictures: Pictures, database: Database, do: Do
    ) -> None:
        self._rules, self._host, self._pictures, self._database, self._do = rules, host, pictures, database, do
        self._one_at_a_time = asyncio.Lock()
        self._log = log.get("hub")

    async def carry(self, run: Delivery) -> JsonValue:
        """Compare the picture of RUN for the rule that its target names; raises Later or Refused."""
        name = run.target.partition(":")[2]
        rule = self._rules.get(name)
        if rule is None or rule.when != "picture" or not run.pictures:
            raise Refused(f"fleet.toml no longer has an alert {name} about pictures")
        async with self._one_at_a_time:  # to limit memory; and a comparison needs the result of the one before
            database = self._database
            state = await self._do(lambda: database.run(lambda db: known(db, name, run.job), reading=True))
            if run.fence <= (state or State()).seen:
                return None  # this run or a later one was compared already
            percent, why = await self._look(rule, state or State(), run)
            after, what = judged(rule, state or State(), run, (self._host, percent, why))
            here, step = (run.job, run.fence, self._host), (state, after, what)
            await self._do(lambda: database.run(lambda db: change(db, (name, rule), here, step, database.now(db))))
        if why:
            self._log.warning("alert.picture_unread", alert=name, job=run.job, fence=run.fence, reason=why)
        return {"percent": percent, "unread": why} if why else {"percent": percent}

    async def _look(self, rule: AlertSettings, state: State, run: Delivery) -> tuple[float | None, str]:
        """By how many percent the picture differs, None: there is no reference; and why it cannot be compared."""
        shown, reference = run.pictures[0], _reference(state, run, self._host)
        try:
            new = await asyncio.to_thread(self._pictures.one, run.worker or "", shown.name, shown.sha256)
        except (Refused, OSError) as error:
            return None, str(error)
        old = new  # compared with itself, to see whether it can be decoded
        if reference is not None:
            try:
                old = await asyncio.to_thread(self._pictures.one, *reference)
            except (Refused, OSError) as error:  # no longer kept: this one becomes the reference
                self._log.warning("alert.picture_gone", job=run.job, fence=run.fence, reason=str(error))
                reference = None
        percent, why = await compared(old, new, rule)
        return (None if reference is None else percent), why


async def compared(old: bytes, new: bytes, rule: AlertSettings) -> tuple[float | None, str]:
    """By how many percent they differ outside the masks of RULE, or why they cannot be compared; raises Later."""
    question = {"masks": rule.masks, "sizes": [len(old), len(new)]}
    try:
        answer = await asked("hub.alerts.difference", question, old, new, seconds=_SECONDS)
        return (None, visible.line(str(answer["error"]))) if "error" in answer else (float(answer["percent"]), "")
    except asyncio.TimeoutError:
        raise Later(f"its picture was not compared within {_SECONDS:g} s") from None
    except (ValueError, KeyError, TypeError) as error:
        return None, f"cannot be decoded: {error}"


def judged(
    rule: AlertSettings, state: State, run: Delivery, look: tuple[str, float | None, str]
) -> tuple[State, str | None]:
    """STATE after a LOOK (host, percent, why not) at the picture of RUN, and what to report; None: nothing."""
    host, percent, why = look
    if why:
        return replace(state, seen=run.fence, unread=True), None if state.unread else UNREAD
    told: dict[str, JsonValue] = {"outcome": run.outcome, "picture": percent}
    after, what = heard(rule, state, told, run.exit or "")
    if percent is None or percent <= (rule.than or 0) or what:
        own = (run.exit or "", host, run.worker or "", run.pictures[0].name, run.pictures[0].sha256)
        others = [one for one in after.shown if one[0] != own[0]]
        after = replace(after, shown=(*others, own)[-_MOST_EXITS:])
    return replace(after, seen=run.fence, unread=False), None if what is None else f"{HAPPENED}-{percent:.2f}"


def _reference(state: State, run: Delivery, host: str) -> tuple[str, str, str] | None:
    """Worker, name and checksum of the reference for the picture of RUN."""
    for place, where, worker, name, sha256 in state.shown:
        if (place, where) == (run.exit or "", host):
            return worker, name, sha256
    return None
