"""`fleet result`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

from pydantic import JsonValue

from fleet import visible
from fleet.errors import UsageError
from fleet.outside.pointers import text
from fleet.result import of_job
from fleet.terminal import console
from hub.commands import columns
from hub.commands.place import host_name, moment, opened, ring
from hub.delivery.outbox import Outbox
from hub.queue import reading, rollups
from hub.queue.values import with_times

_COLUMNS = ("run", "outcome", "site", "worker", "ended (UTC)", "s")
_CSV = (
    *("job", "fence", "key", "site", "task", "outcome", "worker", "exit", "began_at", "ended_at", "error", "arguments"),
    *("answer", "requests", "network_changed", "other_losses", "details"),
)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_FORMULA = re.compile(r"(?:^|(?<=;))(?=\s*[=+\-@＝＋－＠])")
"""The places where a spreadsheet would read a formula; some split cells at a semicolon, too."""


def show_list(arguments: argparse.Namespace) -> None:
    before = None if arguments.start is None else _run(arguments.start, "--from")
    if before is not None and before[1] is None:
        raise UsageError("--from: a run has two numbers, JOB.FENCE", hint="the last run of the previous list")
    with opened(arguments) as place:
        found = reading.page_of_runs(
            place.database,
            arguments.limit,
            before=(before[0], before[1]) if before and before[1] else None,
            outcome=arguments.outcome,
            site=arguments.site,
        )
    rows = [
        (
            f"{one['job']}.{one['fence']}",
            str(one["outcome"]),
            str(one["site"]),
            str(one["worker"] or "-"),
            moment(one["ended_at"]),
            _seconds(one),
        )
        for one in found
    ]
    more = [f"more: --from {rows[-1][0]}"] if len(found) == arguments.limit else []
    value: JsonValue = [with_times(one) for one in found]
    console.answer(arguments, value, *more, table=("" if rows else "no run", _COLUMNS, rows))


def show(arguments: argparse.Namespace) -> None:
    job, fence = _run(arguments.number, "fleet result show")
    with opened(arguments) as place:
        runs = [run for run in reading.runs_of(place.database, job) if fence in (None, run["fence"])]
        if not runs:
            raise UsageError(f"there is no run {arguments.number}", hint="fleet result list")
        last = runs[-1]
        number = int(str(last["fence"]))
        pictures = reading.pictures_of(place.database, job, number)
        delivered = reading.deliveries_of(place.database, job, number)
        spools = place.paths.state / "workers"
    shown: list[JsonValue] = [
        {"file": f"{spools}/{last['worker']}/spool/{one['name']}", "sha256": one["sha256"], "bytes": one["size_bytes"]}
        for one in pictures
    ]
    value = {**with_times(last), "result": f"{of_job(job, number)[0]}-{number:06d}.json", "pictures": shown}
    value["delivered"] = [with_times(one) for one in delivered]
    console.answer(arguments, value, *(f"{name}: {text(it)}" for name, it in value.items() if it is not None))


def counts(arguments: argparse.Namespace) -> None:
    since = _since(arguments.since).timestamp()
    with opened(arguments) as place:
        found = place.database.run(lambda db: rollups.counts(db, arguments.by, since, arguments.site), reading=True)
    rows = [(moment(one.begins_at), one.outcome, str(one.runs), f"{one.seconds / one.runs:.1f}") for one in found]
    table = ("" if rows else "no run", (f"{arguments.by} (UTC)", "outcome", "runs", "mean s"), rows)
    console.answer(arguments, [with_times(asdict(one)) for one in found], table=table)


def uploads(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        found = Outbox(place.database, host_name(place.paths)).backlog()
    rows = [(one.target, str(one.waiting), f"{one.oldest_seconds:.0f}", str(one.aside), one.why or "") for one in found]
    table = ("" if rows else "nothing waits", ("target", "waiting", "oldest s", "refused", "why"), rows)
    console.answer(arguments, [asdict(one) for one in found], table=table)


def upload_again(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        count = Outbox(place.database, host_name(place.paths)).again()
    ring(place.paths)
    console.answer(arguments, {"again": count}, f"{count} will be delivered again")


def export(arguments: argparse.Namespace) -> None:
    since = 0.0 if arguments.since is None else _since(arguments.since).timestamp()
    if arguments.format == "parquet" and sys.stdout.isatty():
        raise UsageError("--format parquet is not text for a terminal", hint="... --format parquet > runs.parquet")
    with opened(arguments) as place:
        found = reading.all_runs(place.database, since)
        if arguments.format == "parquet":
            with columns.parquet(with_times(one) for one in found) as file:
                console.copy(file)
            return
        (_as_csv if arguments.format == "csv" else _as_lines)(with_times(one) for one in found)


def _as_lines(runs: Iterable[dict[str, JsonValue]]) -> None:
    for run in runs:
        console.show(visible.json(json.dumps(run, ensure_ascii=False)))


def _as_csv(runs: Iterable[dict[str, JsonValue]]) -> None:
    console.show(_row(_CSV))
    for run in runs:
        details = run["details"] if isinstance(run["details"], dict) else {}
        console.show(_row([_cell({**details, **run}.get(name)) for name in _CSV]))


def _row(cells: Sequence[str]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(cells)
    return written.getvalue()


def _cell(value: JsonValue) -> str:
    if value is None or isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, str):
        return _FORMULA.sub("'", visible.line(value))
    # JSON may write a character as its number.
    return visible.json(json.dumps(value, ensure_ascii=False)).replace(";", "\\u003b")


def _run(text: str, what: str) -> tuple[int, int | None]:
    if (found := re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?", text, re.ASCII)) is None:
        raise UsageError(f"{what}: {text[:50]!r} is not a run", hint="JOB or JOB.FENCE, as in fleet result list")
    return int(found[1]), int(found[2]) if found[2] else None


def _since(text: str) -> datetime:
    try:
        if found := re.fullmatch(r"([0-9]{1,6})([mhd])", text, re.ASCII):
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is not None:
            return moment
    except (ValueError, OverflowError):  # OverflowError: a time before the year 1
        pass
    raise UsageError(f"--since: {text[:50]!r} is not a time", hint="such as 2026-12-01T09:00+09:00, 90m, 24h, 7d ago")


def _seconds(entry: reading.Entry) -> str:
    began, ended = entry["began_at"], entry["ended_at"]
    return f"{ended - began:.1f}" if isinstance(began, int | float) and isinstance(ended, int | float) else "-"
