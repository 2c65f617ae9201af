"""The state of one rule and one job, and how a run changes it. Pure.

A run makes one statement: yes or no for a rule about a state, else the value it found. A statement counts once as many
exits as required have made it among the last runs, and is confirmed after as many runs in a row. Runs that found
nothing out (failed, limited, refused, lost) are ignored: they neither begin nor end anything.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue

from fleet.outside.pointers import found, number
from fleet.settings.alerts import NUMBERS, PICTURE, STATES, AlertSettings

BEGUN, OVER, AGAIN, HAPPENED, UNREAD = "begun", "over", "again", "happened", "unread"
_KNOWING = ("good", "empty", "absent")
_LONGEST = 200
"""Characters. A longer statement is kept as its checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a rule and a job."""

    recent: tuple[tuple[str, str], ...] = ()
    """Exit and statement of the last runs, the newest last."""
    said: str | None = None
    """The last statement that enough exits made."""
    streak: int = 0
    base: str | None = None
    """The last confirmed value, as JSON."""
    raised: bool = False
    shown: tuple[tuple[str, ...], ...] = ()
    """The reference pictures: exit, host, worker, name and checksum of each."""
    seen: int = 0
    """The latest run (fence) whose picture was compared."""
    unread: bool = False
    """Whether that picture could not be compared."""


def concerns(rule: AlertSettings, run: Mapping[str, Any]) -> bool:
    """Whether RULE applies to the job of RUN (its row)."""
    matches = rule.jobs == "*" or fnmatch.fnmatchcase(run["key"] or "", rule.jobs)
    return matches and rule.site in ("", run["site"])


def heard(rule: AlertSettings, state: State, told: Mapping[str, JsonValue], exit: str) -> tuple[State, str | None]:
    """STATE after the run that TOLD describes, and what to report; None: nothing."""
    if told["outcome"] not in _KNOWING:
        return state, None
    value = found(dict(told), PICTURE if rule.when == "picture" else rule.value)
    said = _said(rule, state, value)
    if said is None:
        return state, None
    width = rule.of or rule.exits
    recent = (*state.recent, (exit, said))[-width:]
    exits = {one for one, what in recent if what == said}
    if len(exits) < rule.exits:
        return replace(state, recent=recent, said=None, streak=0), None
    streak = state.streak + 1 if state.said == said else 1
    after = replace(state, recent=recent, said=said, streak=streak)
    return (after, None) if streak < rule.times else _certain(rule, after, said, value)


def _certain(rule: AlertSettings, state: State, said: str, value: JsonValue) -> tuple[State, str | None]:
    if rule.when in STATES:
        is_so = said == "yes"
        if is_so == state.raised:
            return state, None
        return replace(state, raised=is_so), BEGUN if is_so else OVER
    if rule.when == "picture":
        return (state, None) if said == "same" else (State(), HAPPENED)
    new = json.dumps(number(value)) if rule.when in NUMBERS else said
    if state.base is None:
        return replace(state, base=new), None
    if rule.when in ("percent", "moved"):
        # Counted from here on: a further change in the same direction must be as large again.
        return (state, None) if said == "same" else (State(base=new), HAPPENED)
    happened = new != state.base and (rule.when == "changed" or said == "yes")
    return replace(state, base=new), HAPPENED if happened else None


def _said(rule: AlertSettings, state: State, value: JsonValue) -> str | None:
    """The statement that VALUE makes; None: none."""
    if rule.when == "changed":
        text = json.dumps(value, sort_keys=True)
        return text if len(text) <= _LONGEST else hashlib.sha256(text.encode()).hexdigest()
    if rule.when in ("gone", "back"):
        there = value not in (None, [], {}, "")
        return "yes" if there == (rule.when == "back") else "no"
    if (it := number(value)) is None:
        return None
    limit = rule.than or 0.0
    if rule.when == "picture":
        return "other" if it > limit else "same"
    if rule.when in ("above", "below"):
        return "yes" if (it > limit if rule.when == "above" else it < limit) else "no"
    before = it if state.base is None else number(json.loads(state.base))
    by = 0.0 if before is None else it - before
    if rule.when == "percent" and by:
        by = 100 * by / abs(before) if before else math.copysign(math.inf, by)
    return "same" if abs(by) < limit or by == 0 else "up" if by > 0 else "down"
