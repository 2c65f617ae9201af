"""Holds the pictures of runs against those before, for rules about pictures.

A look is a delivery of the outbox, to the target `hub.picture:RULE`: it holds no worker up, and comes again after a
crash. What a rule then knows, and the word that goes out, are written in one transaction.
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
"""By the clock, on a machine as busy as it may be; of processor it gets less (hub.alerts.difference)."""
_MOST_EXITS = 100
"""So many exits of a job have a picture that others are held against."""


class Comparing:
    """Looks at pictures for RULES; HOST has them."""

    def __init__(
        self, rules: Mapping[str, AlertSettings], host: str, pictures: Pictures, database: Database, do: Do
    ) -> None:
        self._rules, self._host, self._pictures, self._database, self._do = rules, host, pictures, database, do
        self._one_at_a_time = asyncio.Lock()
        self._log = log.get("hub")

    async def carry(self, run: Delivery) -> JsonValue:
        """Look at the picture of RUN, for the rule that its target names; raises Later or Refused."""
        name = run.target.partition(":")[2]
        rule = self._rules.get(name)
        if rule is None or rule.when != "picture" or not run.pictures:
            raise Refused(f"there is no alert {name} about pictures in fleet.toml any more")
        async with self._one_at_a_time:  # for the memory; and a look needs what the one before has found
            state = await self._do(lambda: known(self._database, name, run.job))
            if run.fence <= (state or State()).seen:
                return None  # one after it was looked at before, or this one
            percent, why = await self._look(rule, state or State(), run)
            after, what = judged(rule, state or State(), run, (self._host, percent, why))
            here = (run.job, run.fence, self._host)
            await self._do(lambda: change(self._database, (name, rule), here, (state, after, what)))
        if why:
            self._log.warning("alert.picture_unread", alert=name, job=run.job, fence=run.fence, reason=why)
        return {"percent": percent, "unread": why} if why else {"percent": percent}

    async def _look(self, rule: AlertSettings, state: State, run: Delivery) -> tuple[float | None, str]:
        """By how many percent the picture differs, None: from nothing; and why it cannot be said."""
        shown, reference = run.pictures[0], _reference(state, run, self._host)
        try:
            new = await asyncio.to_thread(self._pictures.one, run.worker or "", shown.name, shown.sha256)
        except (Refused, OSError) as error:
            return None, str(error)
        old = new  # by which it is seen whether it can be read
        if reference is not None:
            try:
                old = await asyncio.to_thread(self._pictures.one, *reference)
            except (Refused, OSError) as error:  # kept no longer: this one takes its place
                self._log.warning("alert.picture_gone", job=run.job, fence=run.fence, reason=str(error))
                reference = None
        percent, why = await compared(old, new, rule)
        return (None if reference is None else percent), why


async def compared(old: bytes, new: bytes, rule: AlertSettings) -> tuple[float | None, str]:
    """By how many percent they differ outside the masks of RULE, or why that cannot be said; raises Later."""
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
    """STATE after a LOOK (host, percent, why not) at the picture of RUN, and what has to be told; None: nothing."""
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
    """Owner, name and sum of the picture that the one of RUN is held against."""
    for place, where, worker, name, sha256 in state.shown:
        if (place, where) == (run.exit or "", host):
            return worker, name, sha256
    return None
