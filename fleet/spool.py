"""A worker's spool, as everybody but the worker sees it.

A finished loop is two files: `RUN-LOOP.json` (a Result) and, unless it failed before the page stood, `RUN-LOOP.png`.
Both are written to a temporary name, synced and renamed, the JSON last: whoever sees the JSON has the whole result.

The folder belongs to the worker, and so to whatever took its browser over, while root reads it. A file with the name of
a result that holds none is left out and told of, whatever it is; files with other names are not looked at.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import FleetError
from fleet.files import open_foreign, read_foreign
from fleet.result import Result

RESULT_BYTES = 4 << 20
"""The largest JSON file of a result."""
_NAME = re.compile(r"([a-z0-9-]{1,40})-([0-9]{6,12})\.json")
_NEWEST = 20
"""So many of the newest files are tried until one can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A file that has the name of a result and holds none, or a spool that is no folder."""

    path: Path
    why: str
    """With the path."""


class Reader:
    """Reads one spool again and again, and each file in it once; of one RUN, or of all."""

    def __init__(self, folder: Path, run: str | None = None) -> None:
        self._folder, self._run = folder, run
        self._seen: set[str] = set()

    def look(self) -> tuple[list[Result], list[Unreadable]]:
        """What is new, by run and loop."""
        found = list(_read(self._folder, self._fresh))
        return [one for one in found if isinstance(one, Result)], [one for one in found if isinstance(one, Unreadable)]

    def _fresh(self, names: list[str], _: int) -> Iterable[str]:
        fresh = set(names) - self._seen
        self._seen |= fresh
        return sorted(name for name in fresh if (found := _NAME.fullmatch(name)) and self._run in (None, found[1]))


def read_spool(folder: Path, run: str | None = None) -> list[Result]:
    """The results in FOLDER that can be read, of one run or of all; none when there is no folder."""
    return Reader(folder, run).look()[0]


def newest(folder: Path) -> tuple[Result | None, tuple[Unreadable, ...]]:
    """The result in FOLDER that was written last, and the younger files that hold none."""
    unreadable: list[Unreadable] = []
    for one in _read(folder, _youngest):
        if isinstance(one, Result):
            return one, tuple(unreadable)
        unreadable.append(one)
    return None, tuple(unreadable)


def last_loop(folder: Path, run: str) -> int:
    """The highest loop of RUN that was handed in, 0 when none was; names alone tell it, no file is opened."""
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return max((int(name[2]) for name in found if name and name[1] == run), default=0)


def read_result(path: Path, folder: int | None = None) -> Result:
    """The result in PATH, which lies in the open FOLDER if there is one; raises FleetError when it holds none."""
    try:
        content = read_foreign(path if folder is None else path.name, RESULT_BYTES, folder)
        result = Result.model_validate_json(content)
    except OSError as error:
        raise FleetError(f"{path} holds no result: {error.strerror}") from error
    except ValidationError as error:
        # Neither values nor names of the file's own: the words are shown on root's terminal.
        first = error.errors(include_url=False, include_input=False)[0]
        known = [f"{part}: " for part in first["loc"][:1] if part in Result.model_fields]
        raise FleetError(f"{path} holds no result: {''.join(known)}{first['msg']}") from None
    if result.file_stem != path.stem:
        raise FleetError(f"{path} holds the result of another loop")
    return result


def _read(folder: Path, choose: Callable[[list[str], int], Iterable[str]]) -> Iterator[Result | Unreadable]:
    """Those files in FOLDER that CHOOSE picks of its names and by its descriptor."""
    try:
        descriptor = open_foreign(folder, os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Unreadable(path=folder, why=f"{folder} is no spool: {error.strerror}")
        return
    try:
        names = os.listdir(descriptor)  # noqa: PTH208 - of the folder that is open, whatever its path leads to now
        for name in choose(names, descriptor):
            try:
                yield read_result(folder / name, descriptor)
            except FleetError as error:
                if not isinstance(error.__cause__, FileNotFoundError):  # somebody has just taken it away
                    yield Unreadable(path=folder / name, why=error.message)
    finally:
        os.close(descriptor)


def _youngest(names: list[str], folder: int) -> Iterable[str]:
    def written(name: str) -> int:
        try:
            return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            return 0

    return heapq.nlargest(_NEWEST, filter(_NAME.fullmatch, names), key=written)
