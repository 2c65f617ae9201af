"""Reads a worker's spool, for all programs but the worker.

A finished loop is two files: `RUN-LOOP.json` (a Result) and, unless it failed before a page loaded, `RUN-LOOP.png`.
Both are written to a temporary name, synced and renamed, the JSON last: when the JSON exists, the result is complete.

The folder belongs to the worker, and so to an attacker who has taken its browser over; root reads it with care
(fleet.machine.foreign). A file that has the name of a result but holds none is skipped and reported; its worker renames
it to `*.bad` at its next start. Files with other names are ignored.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import to_json

from fleet.errors import FleetError
from fleet.machine.foreign import MOST_NAMES, Folder
from fleet.plausible import doubt
from fleet.result import Result

RESULT_BYTES = 4 << 20
"""The largest JSON file of a result."""
ANSWER_BYTES = 32 << 20
"""How much of answers, as JSON, one Reader returns; later results come without their answers."""
BAD = ".bad"
_NAME = re.compile(r"([a-z0-9-]{1,40})-([0-9]{6,12})\.json")
_SET_ASIDE = re.compile(rf"({_NAME.pattern})(\.[0-9]+)?{re.escape(BAD)}")
RECENT = 20
"""How many of the newest files are read."""
_RECENT_SECONDS = 0.2
"""After this time no further file is begun, once a result was read."""
LOOK_SECONDS = 1.0
"""After this time a look begins no further file, so that one busy spool does not delay the others."""
_ALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file that has the name of a result but holds none, or a spool that is no folder."""

    path: Path
    why: str
    """The reason, with the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest results of a spool."""

    recent: tuple[Result, ...]
    """The results that were written last, newest first, at most RECENT; all but the first without their answers."""
    unreadable: tuple[Unreadable, ...]
    """Newer files that hold no result."""
    set_aside: int
    """The number of files in the spool that were set aside (`*.bad`)."""

    @property
    def result(self) -> Result | None:
        """The newest result."""
        return self.recent[0] if self.recent else None


class Reader:
    """Reads one spool of WORKER repeatedly: each result once, and a file that holds none again when it has changed.

    Of one RUN, or of all. With LOOPS the names of a run's results are known, even when the spool is too large to list.
    """

    def __init__(self, folder: Path, run: str | None = None, *, worker: str | None = None, loops: int = 0) -> None:
        self._folder, self._run, self._worker, self._loops = folder, run, worker, loops
        self._seen: dict[str, object] = {}
        self._done: set[str] = set()
        self._aside: set[str] = set()
        self._told_of: set[str] = set()
        self._answer_bytes = ANSWER_BYTES

    def look(self, seconds: float = LOOK_SECONDS) -> tuple[list[Result], list[Unreadable]]:
        """The new results, by run and loop, and the new unreadable files; begins no file after SECONDS."""
        deadline = time.monotonic() + seconds
        found = list(_read(self._folder, lambda spool: self._fresh(spool, deadline), self._worker))
        results = [self._within(one) for one in found if isinstance(one, Result)]
        self._done |= {f"{one.file_stem}.json" for one in results}
        unreadable = [one for one in found if isinstance(one, Unreadable)]
        unreadable += [self._told(name) for name in sorted(self._aside - self._told_of)]
        self._told_of |= self._aside
        return results, unreadable

    def _fresh(self, spool: Folder, deadline: float) -> Iterator[str]:
        for name in self._names(spool):
            if name in self._done or (state := spool.state(name)) is None or self._seen.get(name) == state:
                continue
            self._seen[name] = state
            yield name
            if time.monotonic() > deadline:
                return

    def _names(self, spool: Folder) -> Iterable[str]:
        known = [f"{self._run}-{loop:06d}.json" for loop in range(1, self._loops + 1)]
        names = spool.names()[0]
        aside = filter(None, map(_SET_ASIDE.fullmatch, names))
        self._aside = {one[1] for one in aside if self._run in (None, one[2])}
        found = filter(None, map(_NAME.fullmatch, names))
        return dict.fromkeys([*known, *sorted(one[0] for one in found if self._run in (None, one[1]))])

    def _told(self, name: str) -> Unreadable:
        path = self._folder / name
        return Unreadable(path=path, why=f"{path} held no result; its worker has set it aside (*{BAD})")

    def _within(self, result: Result) -> Result:
        self._answer_bytes -= len(to_json(result.answer))
        return result if self._answer_bytes >= 0 else result.model_copy(update={"answer": {}, "answer_cut": True})


def read_spool(folder: Path, run: str | None = None, *, worker: str | None = None) -> list[Result]:
    """All readable results in FOLDER, of one run or of all; empty when there is no folder."""
    return Reader(folder, run, worker=worker).look(_ALL_SECONDS)[0]


def newest(folder: Path, worker: str | None = None) -> Newest:
    """The newest results of FOLDER, the spool of WORKER."""
    unreadable: list[Unreadable] = []
    recent: list[Result] = []
    set_aside, deadline = 0, time.monotonic() + _RECENT_SECONDS

    def youngest(spool: Folder) -> Iterable[str]:
        nonlocal set_aside
        names, complete = spool.names()
        if not complete:
            why = f"{folder} has more than {MOST_NAMES} names, or does not show them in time: not all were looked at"
            unreadable.append(Unreadable(path=folder, why=why))
        set_aside = sum(name.endswith(BAD) for name in names)
        dated = ((spool.state(name) or (0,), name) for name in names if _NAME.fullmatch(name))
        return [name for _, name in heapq.nlargest(RECENT, dated)]

    for one in _read(folder, youngest, worker):
        if isinstance(one, Result):
            recent.append(one.model_copy(update={"answer": {}}) if recent else one)
        elif not recent:
            unreadable.append(one)
        if recent and time.monotonic() > deadline:
            break
    return Newest(recent=tuple(recent), unreadable=tuple(unreadable), set_aside=set_aside)


def handed_in(folder: Path, run: str) -> list[tuple[int, str]]:
    """Loop and file name of all results of RUN in FOLDER, last first; only the names are checked."""
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    return sorted(((int(name[2]), name[0]) for name in found if name and name[1] == run), reverse=True)


def read_result(path: Path, worker: str | None = None) -> Result:
    """The result in PATH, a file of WORKER's spool; raises FleetError when it holds none."""
    try:
        with Folder(path.parent.parent, path.parent.name) as spool:
            return _result(spool, path.name, worker)
    except OSError as error:
        raise FleetError(f"{path} holds no result: {error.strerror}") from error


def _result(spool: Folder, name: str, worker: str | None) -> Result:
    path = spool.path / name
    try:
        result = Result.model_validate_json(spool.read(name, RESULT_BYTES))
    except OSError as error:
        raise FleetError(f"{path} holds no result: {error.strerror}") from error
    except ValidationError as error:
        # Neither values nor field names of the file, because the message is shown on root's terminal.
        first = error.errors(include_url=False, include_input=False)[0]
        known = [f"{part}: " for part in first["loc"][:1] if part in Result.model_fields]
        raise FleetError(f"{path} holds no result: {''.join(known)}{first['msg']}") from None
    if result.file_stem != path.stem:
        raise FleetError(f"{path} holds the result of another loop")
    if worker not in (None, result.worker):
        raise FleetError(f"{path} holds the result of another worker")
    if why := doubt(result):
        raise FleetError(f"{path} holds no result: {why}")
    return result


def _read(folder: Path, choose: Callable[[Folder], Iterable[str]], worker: str | None) -> Iterator[Result | Unreadable]:
    """Read the files in FOLDER that CHOOSE returns."""
    try:
        opened = Folder(folder.parent, folder.name)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Unreadable(path=folder, why=f"{folder} is no spool: {error.strerror}")
        return
    with opened as spool:
        try:
            for name in choose(spool):
                try:
                    yield _result(spool, name, worker)
                except FleetError as error:
                    if not isinstance(error.__cause__, FileNotFoundError):  # it was deleted meanwhile
                        yield Unreadable(path=folder / name, why=error.message)
        except OSError as error:
            yield Unreadable(path=folder, why=f"{folder} cannot be listed: {error.strerror}")
