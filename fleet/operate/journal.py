"""`fleet log`: the logs of supervisord, netctl, the hub and all workers, merged by time, as lines or as JSON.

A worker writes its own log, and an attacker who has taken it over can write anything there: its times are only claims,
its lines are cut, and all of it passes fleet.terminal.console.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

from fleet import snapshot, spool, visible
from fleet.errors import FleetError, UsageError
from fleet.model import Paths
from fleet.result import Result
from fleet.terminal import console

_TAIL_BYTES = 256 << 10
"""How much of the end of each log is read, without --around."""
_AROUND_BYTES = 48 << 20
"""The same with --around: enough for a log and the rotated ones that supervisord keeps."""
_LINE_BYTES = 64 << 10
_LINE_CHARACTERS = 1000
"""Longest line for people; --json has all of it."""
_TRIES_BYTES = 16 << 10
_SINCE = {"tunnel.ready", "loop.done", "loop.not_handed_in", "worker.started"}
_LOOK_SECONDS = 0.3
_MARGIN = timedelta(seconds=5)
_KEPT = (".2", ".1", "")
"""Suffixes of a log, the oldest first."""
_SUPERVISORD = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) (\w+) (.*)")
_NOT_SAID = {"timestamp", "level", "event", "program", "worker"}
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a log."""

    moment: datetime
    """Its time, UTC; a line without one gets that of the line before it."""
    source: str
    """The log's name: netctl, w1101, supervisord."""
    fields: dict[str, Any]

    def __str__(self) -> str:
        told = {name: value for name, value in self.fields.items() if name not in _NOT_SAID and value is not None}
        level, worker = self.fields.get("level", "info"), self.fields.get("worker", self.source)
        words = [
            f"{self.moment:%Y-%m-%d %H:%M:%S}.{self.moment.microsecond // 1000:03d}",
            self.source,
            *([] if level == "info" else [str(level).upper()]),
            str(self.fields.get("event", "")),
            *([] if worker == self.source else [f"worker={worker}"]),
            *(f"{name}={value}" for name, value in told.items()),
        ]
        shown = " ".join(words)
        return visible.line(shown[:_LINE_CHARACTERS] + (" ..." if len(shown) > _LINE_CHARACTERS else ""))

    def as_json(self) -> str:
        """All of it as JSON; source and time are ours, not what the line claims."""
        told = {**self.fields, "source": self.source, "timestamp": self.moment.isoformat()}
        try:
            return visible.json(json.dumps(told, ensure_ascii=False, allow_nan=False))
        except ValueError:  # a number that JSON does not have (NaN)
            return visible.json(json.dumps({name: str(value) for name, value in told.items()}, ensure_ascii=False))

    def about(self, worker: str) -> bool:
        """Whether WORKER logged it, or it is about WORKER."""
        return self.source == worker or worker in str(self.fields.get("worker", self.fields.get("event", "")))


@dataclass
class Log:
    """One log, read step by step; after a rotation the rest of the old file, then the new file from its beginning."""

    path: Path
    at: int = 0
    inode: int = 0
    _moment: datetime = field(default=_LONG_AGO)

    def read(self, most_bytes: int) -> Iterator[Event]:
        """The new lines, of the last MOST_BYTES; an incomplete line is left for the next call."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            found = os.fstat(file.fileno())
            if found.st_ino != self.inode or found.st_size < self.at:
                yield from self._rest(most_bytes)
                self.inode, self.at = found.st_ino, 0
            yield from self._lines(file, most_bytes)

    def _rest(self, most_bytes: int) -> Iterator[Event]:
        with suppress(FileNotFoundError), Path(f"{self.path}.1").open("rb") as file:
            if os.fstat(file.fileno()).st_ino == self.inode:
                yield from self._lines(file, most_bytes)

    def _lines(self, file: BinaryIO, most_bytes: int) -> Iterator[Event]:
        size = os.fstat(file.fileno()).st_size
        if size - self.at > most_bytes:
            file.seek(size - most_bytes)
            file.readline(_LINE_BYTES)
        else:
            file.seek(self.at)
        while (line := file.readline(_LINE_BYTES)) and (line.endswith(b"\n") or len(line) == _LINE_BYTES):
            self.at = file.tell()
            if text := line.decode(errors="backslashreplace").strip():
                yield self._event(text)

    def _event(self, text: str) -> Event:
        fields = _parsed(text)
        claimed = _moment(fields.get("timestamp")) or self._moment
        self._moment = min(claimed, datetime.now(timezone.utc))  # a future time would stay after all later lines
        return Event(moment=self._moment, source=self.path.name.partition(".")[0], fields=fields)


def attempt_failed(path: Path) -> str | None:
    """Why the last attempt in the worker's log at PATH failed; None when the worker has got further since."""
    why = None
    for event in Log(path).read(_TRIES_BYTES):
        said = event.fields
        if said.get("event") == "attempt.failed":
            first = str(said.get("reason", "")).partition("\n")[0]
            why = f"{said.get('stage')}: {said.get('name')}: {first}"[:_LINE_CHARACTERS]
        elif said.get("event") in _SINCE:
            why = None
    return why


def _parsed(text: str) -> dict[str, Any]:
    """The fields of a line; a line that is neither JSON nor supervisord's becomes the event as it is."""
    if text.startswith("{"):
        try:
            found = json.loads(text)
            return found if isinstance(found, dict) else {"event": text}
        except (ValueError, RecursionError):
            return {"event": text}
    if match := _SUPERVISORD.fullmatch(text):
        day, milliseconds, level, words = match.groups()
        level = {"info": "info", "warn": "warning"}.get(level.lower(), level.lower())
        return {"timestamp": f"{day}.{milliseconds}", "level": level, "event": words}
    return {"event": text}


def _moment(text: object) -> datetime | None:
    """The time in UTC; one without a zone is local time, as supervisord writes it."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None


def show(arguments: argparse.Namespace) -> None:
    """`fleet log`."""
    paths = Paths.from_environment()
    if arguments.around:
        if arguments.follow:
            raise UsageError("either -f or --around", hint="fleet log --help")
        begun, ended = _window(arguments.around, arguments.worker, paths)
        kept = [Path(f"{path}{suffix}") for path in _paths(paths) for suffix in _KEPT]
        logs = [Log(path) for path in kept if path.exists() and path.stat().st_mtime >= begun.timestamp()]
        found = [one for log in logs for one in log.read(_AROUND_BYTES) if begun <= one.moment <= ended]
        _say(found, arguments)
        return
    known = {path: Log(path) for path in _paths(paths)}
    _say(_new(known.values()), arguments, arguments.lines)
    while arguments.follow:
        select.select([], [], [], _LOOK_SECONDS)
        known = {path: known.get(path) or Log(path) for path in _paths(paths)}
        _say(_new(known.values()), arguments)


def _paths(paths: Paths) -> list[Path]:
    """Every log but those of the tunnels' programs, whose lines have no time."""
    return sorted(
        path
        for path in paths.logs.glob("*.log")
        if re.fullmatch(r"netctl|hub|acts|rearm|keyservice|supervisord|w\d+", path.stem)
    )


def _new(logs: Iterable[Log]) -> list[Event]:
    return [one for log in logs for one in log.read(_TAIL_BYTES)]


def _say(events: Iterable[Event], arguments: argparse.Namespace, most: int = 0) -> None:
    """Print EVENTS in order of time, only the last MOST of them; 0: all."""
    wanted = [one for one in events if arguments.worker is None or one.about(arguments.worker)]
    for one in sorted(wanted, key=lambda one: one.moment)[-most:]:
        console.show(one.as_json() if arguments.json else str(one))
    sys.stdout.flush()


def _window(loop: str, worker: str | None, paths: Paths) -> tuple[datetime, datetime]:
    """When LOOP (`w1101/always-000007`, or without the worker) began and ended, 5 s wider; raises FleetError."""
    named, _, stem = loop.rpartition("/")
    started = snapshot.last(paths.snapshot)
    members = [one for one in (started.fleet.members if started else ()) if (named or worker) in ("", None, one.name)]
    found = {one.name: result for one in members if (result := _result(paths.spool(one) / f"{stem}.json", one.name))}
    if not found:
        raise FleetError(f"there is no result of a loop {loop!r}", hint="fleet status names the last ones")
    if len(found) > 1:
        raise UsageError(f"{len(found)} workers have a loop {stem}", hint=f"--around {min(found)}/{stem}")
    (result,) = found.values()
    return result.started - _MARGIN, result.finished + _MARGIN


def _result(path: Path, worker: str) -> Result | None:
    try:
        return spool.read_result(path, worker)
    except FleetError:
        return None
