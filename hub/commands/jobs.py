"""`fleet job`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from fleet.errors import ExitCode, UsageError
from fleet.terminal import console
from hub import entering
from hub.commands.place import Place, moment, opened, read_text
from hub.exits import missing
from hub.queue import reading
from hub.queue.values import Added, Cancelled, Job, with_times

_COLUMNS = ("job", "state", "site", "key or task", "due (UTC)", "left")
_SHOWN = 20
_BECAME = {
    Cancelled.GONE: "cancelled",
    Cancelled.TOLD: "ends with its current run",
    Cancelled.UNKNOWN: "not there",
}
_WORDS = {Added.NEW: "added", Added.THERE: "in the queue already", Added.DONE: "done before"}


def add(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        many = _said(arguments, place)
        receipts = place.store.add(many)
        jobs: Any = place.fleet.hub.jobs
        nowhere = missing({one.exit for one in many}, place.fleet, place.paths)
    counts = Counter(one.added for one in receipts)
    told = ", ".join(f"{counts[added]} {words}" for added, words in _WORDS.items() if counts[added]) or "no job"
    numbers = " ".join(str(one.job) for one in receipts[:_SHOWN]) if len(receipts) <= _SHOWN else ""
    value: JsonValue = [{"job": one.job, "added": one.added.value} for one in receipts]
    console.answer(arguments, value, f"{told}{f': {numbers}' if numbers else ''}")
    for name in nowhere:
        console.say(f"fleet job add: no key of this host has the exit {name}; see: sudo netctl keys list")
    if jobs == "none":
        console.say(
            'fleet job add: no worker takes jobs here: set hub.jobs = "first" in fleet.toml, fleet down, fleet up'
        )


def _said(arguments: argparse.Namespace, place: Place) -> list[Job]:
    task, targets = place.fleet.task, tuple(place.fleet.hub.targets)
    given = {name: value for name in entering.FIELDS if (value := getattr(arguments, name)) is not None}
    try:
        usual = {**given, "arguments": dict(map(entering.argument, arguments.arguments))}
        if arguments.file is None:
            if not arguments.arguments:
                raise ValueError("name the options of the job: NAME=TEXT, or --file")
            return entering.each(usual, task, targets, place.declared)
    except ValueError as error:
        raise UsageError(f"fleet job add: {error}", hint="fleet job add --help") from None
    origin = "standard input" if arguments.file == "-" else arguments.file
    return entering.jobs(entering.lines(read_text(arguments)), usual, task, origin, targets, declared=place.declared)


def show_list(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        found = reading.page_of_jobs(
            place.database,
            arguments.limit,
            after=_number(arguments.start),
            state=arguments.state,
            site=arguments.site,
        )
    rows = [
        (str(one["id"]), _state(one), str(one["site"]), _name(one), moment(one["due_at"]), _left(one)) for one in found
    ]
    more = [f"more: --from {found[-1]['id']}"] if len(found) == arguments.limit else []
    value: JsonValue = [with_times(one) for one in found]
    console.answer(arguments, value, *more, table=("" if rows else "no job", _COLUMNS, rows))


def show(arguments: argparse.Namespace) -> int:
    with opened(arguments) as place:
        found = reading.job(place.database, arguments.job)
        runs = reading.runs_of(place.database, arguments.job)
    if found is None and not runs:
        raise UsageError(f"there is no job {arguments.job}, and no run of one", hint="fleet job list")
    job = with_times(found) if found else None
    value: JsonValue = {"job": job, "runs": [with_times(run) for run in runs]}
    lines = [f"{name}: {text}" for name, text in (job or {}).items() if text not in (None, "", [], {}, False)]
    rows = [
        (f"{run['job']}.{run['fence']}", str(run["outcome"]), str(run["worker"] or "-"), moment(run["ended_at"]))
        for run in runs
    ]
    console.answer(arguments, value, *(lines or [f"job {arguments.job} is done"]))
    if rows and not arguments.json:
        console.print_table("", ("run", "outcome", "worker", "ended (UTC)"), rows)
    return ExitCode.DONE


def cancel(arguments: argparse.Namespace) -> int:
    with opened(arguments) as place:
        became = place.store.cancel(arguments.jobs)
    _say(arguments, {job: (one.value, _BECAME[one]) for job, one in became.items()})
    return ExitCode.FAILED if Cancelled.UNKNOWN in became.values() else ExitCode.DONE


def retry(arguments: argparse.Namespace) -> int:
    with opened(arguments) as place:
        ready = place.store.retry(arguments.jobs)
    words = {True: ("ready", "ready again"), False: ("unknown", "is not set aside")}
    _say(arguments, {job: words[job in ready] for job in arguments.jobs})
    return ExitCode.DONE if ready.issuperset(arguments.jobs) else ExitCode.FAILED


def _say(arguments: argparse.Namespace, became: Mapping[int, tuple[str, str]]) -> None:
    """Answer what each job BECAME, by number: a word for programs, and words for people."""
    value: JsonValue = {str(job): word for job, (word, _) in became.items()}
    console.answer(arguments, value, *(f"job {job}: {words}" for job, (_, words) in became.items()))


def _state(entry: reading.Entry) -> str:
    return f"leased {entry['worker']}" if entry["state"] == "leased" else str(entry["state"])


def _name(entry: reading.Entry) -> str:
    return str(entry["key"] or entry["task"])


def _left(entry: reading.Entry) -> str:
    return f"{entry['attempts_left']} of {entry['attempts']}"


def _number(text: str | None) -> int:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError(f"--from: {text[:50]!r} is not a job number")
    return int(text or 0)
