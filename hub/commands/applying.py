"""`fleet job apply`: makes the queue's jobs of a file's name the same as those in the file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from fleet.errors import ExitCode, UsageError
from fleet.model import Fleet
from fleet.terminal import console
from hub import entering
from hub.commands.place import Place, opened, read_text
from hub.declared import UNKNOWN, Declared
from hub.queue import reading
from hub.queue.changing import change, differences
from hub.queue.values import Cancelled, Job

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SIGNS = {"add": "+", "change": "~", "end": "-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of the queue."""

    what: str
    name: str
    why: str = ""
    job: Job | None = None
    number: int = 0
    """Of the job that exists."""


def apply(arguments: argparse.Namespace) -> int:
    with opened(arguments) as place:
        name, wanted = parsed(read_text(arguments), arguments.file, place.fleet, place.declared)
        steps = plan(place, name, wanted)
        failed = [step.name for step in steps if arguments.yes and not _done(place, step)]
    told = [f"{_SIGNS[step.what]} {step.name}{f': {step.why}' if step.why else ''}" for step in steps]
    same = len(wanted) - sum(step.what != "end" for step in steps)
    last = "" if arguments.yes or not steps else f"; nothing was done yet: fleet job apply --yes {arguments.file}"
    shown: list[JsonValue] = [{"what": step.what, "job": step.name, "why": step.why} for step in steps]
    console.answer(arguments, {"steps": shown, "same": same}, *told, f"{same} unchanged{last}")
    for one in failed:
        console.say(f"fleet job apply: {one} runs, and cannot change its site meanwhile: apply the file again later")
    if failed:
        return ExitCode.TRY_LATER
    return ExitCode.WOULD_CHANGE if steps and not arguments.yes else ExitCode.DONE


def plan(place: Place, name: str, wanted: Mapping[str, Job]) -> list[Step]:
    """The steps that make the queue's jobs of NAME equal to those that are WANTED, by key."""
    there = reading.jobs_of(place.database, f"{name}/")
    once = [key for key, job in wanted.items() if job.repeat is None and key not in there]
    done = reading.done(place.database, once)
    steps = [Step(what="add", name=key, job=wanted[key]) for key in wanted if key not in there and key not in done]
    for key, job in wanted.items():
        if key in there and (other := differences(there[key], job)):
            steps.append(Step(what="change", name=key, why=", ".join(other), job=job, number=there[key]["id"]))
    gone = [key for key in there if key not in wanted]
    return [*steps, *(Step(what="end", name=key, number=there[key]["id"]) for key in gone)]


def _done(place: Place, step: Step) -> bool:
    if step.job is None:
        return place.store.cancel([step.number])[step.number] is not Cancelled.UNKNOWN
    job, number = step.job, step.number
    if not number:
        return bool(place.store.add([job]))
    return place.store.turn(lambda turn: change(turn.db, number, job, turn.pace, turn.now))


def parsed(text: str, origin: str, fleet: Fleet, declared: Declared = UNKNOWN) -> tuple[str, dict[str, Job]]:
    """The name of a file and its jobs by key; raises UsageError with the first mistakes."""
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin} is not TOML: {error}", hint="correct that line") from None
    name, usual, jobs = tables.pop("name", None), tables.pop("usual", {}), tables.pop("jobs", {})
    wrong = [f"{origin}: {key[:50]}: there is no such key" for key in tables]
    if not (isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", name)):
        wrong.append(f'{origin}: name: missing, or not a word of small letters and digits, such as name = "shops"')
    if not isinstance(usual, dict) or not isinstance(jobs, dict):
        wrong.append(f"{origin}: usual and jobs must be tables")
        usual = jobs = {}
    made: dict[str, Job] = {}
    for key, said in jobs.items():
        try:
            named = {**_said(usual, said), "key": f"{name}/{key}"}
            made |= {str(job.key): job for job in entering.each(named, fleet.task, fleet.hub.targets, declared)}
        except ValueError as error:
            wrong.append(f"{origin}: jobs.{key[:50]}: {error}")
    if wrong:
        raise UsageError("\n".join(wrong[:10]), hint="correct these; nothing was changed")
    return str(name), made


def _said(usual: Mapping[str, Any], said: object) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise ValueError("is not a table")
    both = {**usual, **said}
    if unknown := sorted(both.keys() - ({*entering.FIELDS, "arguments"} - {"key"})):
        raise ValueError(f"there is no {unknown[0][:50]!r}; an option of the task belongs in `arguments`")
    given = [one.get("arguments", {}) for one in (usual, said)]
    if not all(isinstance(one, dict) for one in given):
        raise ValueError("arguments: is not a table of options")
    return {**both, "arguments": {**given[0], **given[1]}}
