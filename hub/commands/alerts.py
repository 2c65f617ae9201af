"""`fleet alert`."""

from __future__ import annotations

import argparse

from pydantic import JsonValue

from fleet.errors import UsageError
from fleet.terminal import console
from hub.alerts import recording
from hub.commands.place import moment, opened
from hub.queue.values import with_times

_COLUMNS = ("alert", "job", "since (UTC)", "told", "")


def show_list(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        found = recording.open_ones(place.database)
    rows = [
        (one["rule"], str(one["job"]), moment(one["since"]), str(one["told"] + 1), "handled" if one["handled"] else "")
        for one in found
    ]
    shown: list[JsonValue] = [
        {"alert": one["rule"], "job": one["job"], "fence": one["fence"], "handled": one["handled"]}
        | with_times({"since_at": one["since"]})
        for one in found
    ]
    console.answer(arguments, shown, table=("" if rows else "no alert lasts", _COLUMNS, rows))


def handled(arguments: argparse.Namespace) -> None:
    with opened(arguments) as place:
        known = recording.handle(place.database, arguments.alert, arguments.job)
    if not known:
        words = f"no alert {arguments.alert} of job {arguments.job} lasts"
        raise UsageError(words, hint="fleet alert list")
    words = f"{arguments.alert} of job {arguments.job}: the next message comes when it is over"
    console.answer(arguments, {"handled": True}, words)
