"""Writes finished loops to the worker's spool: pictures first, JSON last, each durably and atomically."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import time
from collections import deque
from pathlib import Path

from fleet import log, spool
from fleet.errors import FleetError
from fleet.machine.files import write_durably
from fleet.result import Result
from fleet.settings.hub import KeepSettings

KEPT = 50
"""How many results of jobs that the hub has read are kept for people to look at."""
_OF_JOB = re.compile(r"job-[0-9]{1,19}-[0-9]{6,19}\.json")
_PICTURE = re.compile(r"job-[0-9]{1,19}-[0-9]{6,19}(_[0-9]{2})?\.(png|webp)")
_OF_TASK = re.compile(r"(?!job-)([a-z0-9-]{1,40}-[0-9]{6,12})(?:_[0-9]{2})?\.(json|png|webp)")
LET_GO_SECONDS, _DAY_SECONDS = 3600.0, 86_400.0
MODE, FILE_MODE = 0o750, 0o640
"""The group, which is the hub's and has no worker, may read."""
_log = log.get("worker")


class Spool:
    """One worker's folder of finished loops; files named like a result that hold none are renamed to `*.bad`."""

    def __init__(self, folder: Path, keep: KeepSettings | None = None, workers: int = 1) -> None:
        """KEEP limits the age and size of the results of `[task]`; this is one of WORKERS workers."""
        self.folder = folder
        self._keep, self._share_bytes = keep, ((keep.pictures_mebibytes << 20) // workers if keep else 0)
        self._let_go_at = -LET_GO_SECONDS
        self._told: deque[str] = deque()
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            _set_aside(folder, f"{folder} is no folder")
        _of_the_homes_group(folder)
        for half in folder.glob(".*.new"):  # an earlier run ended during a write
            with contextlib.suppress(IsADirectoryError):
                half.unlink()
        jobs = sorted((path.lstat().st_mtime, path.name) for path in folder.iterdir() if _OF_JOB.fullmatch(path.name))
        self._told.extend(name for _, name in jobs[:-1])  # the hub may not know of the last one
        for one in spool.newest(folder).unreadable:
            if one.path != folder:
                _set_aside(one.path, one.why)

    def last_loop(self, run: str) -> int:
        """The highest loop number of RUN in the spool; 0 when there is none."""
        for loop, name in spool.handed_in(self.folder, run):
            try:
                spool.read_result(self.folder / name)
            except FleetError as error:
                if _set_aside(self.folder / name, error.message):
                    continue
            return loop
        return 0

    def newest(self) -> Result | None:
        """The result that was written last."""
        return spool.newest(self.folder).result

    def put_screenshot(self, name: str, picture: bytes) -> None:
        """Write PICTURE durably under NAME; readers ignore it until its JSON exists."""
        write_durably(self.folder / name, picture, FILE_MODE)

    def told_of(self, stem: str) -> None:
        """The hub has read the result STEM: keep only the newest KEPT of those that it has read."""
        self._told.append(f"{stem}.json")
        while len(self._told) > KEPT:
            (self.folder / self._told.popleft()).unlink(missing_ok=True)

    def forget(self, name: str) -> bool:
        """Delete a picture of a job that is no longer wanted; returns whether it is gone."""
        if not _PICTURE.fullmatch(name):
            return False
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)
        return not os.path.lexists(self.folder / name)

    def put(self, result: Result) -> None:
        """Write RESULT durably; an answer that is too large for readers is left out."""
        content = result.model_dump_json().encode()
        if len(content) > spool.RESULT_BYTES:
            content = result.model_copy(update={"answer": {}, "answer_cut": True}).model_dump_json().encode()
        write_durably(self.folder / f"{result.file_stem}.json", content, FILE_MODE)
        if self._keep is not None and time.monotonic() - self._let_go_at >= LET_GO_SECONDS:
            self._let_go_at = time.monotonic()
            self._let_go(self._keep, result.file_stem)

    def _let_go(self, keep: KeepSettings, newest: str) -> None:
        """Delete old results, like the hub does: pictures by age and size, then answers. The NEWEST result is kept.

        The hub decides about the files of jobs.
        """
        found: dict[bool, list[tuple[float, int, str]]] = {True: [], False: []}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if (known := _OF_TASK.fullmatch(entry.name)) and known[1] != newest:
                    with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                        seen = entry.stat(follow_symlinks=False)
                        found[known[2] != "json"].append((seen.st_mtime, seen.st_size, entry.name))
        gone = []
        for pictures, days in ((True, keep.pictures_days), (False, keep.answers_days)):
            left = sum(size for _, size, _ in found[pictures])
            for written, size, name in sorted(found[pictures]):
                if written >= time.time() - days * _DAY_SECONDS and left <= self._share_bytes:
                    break
                left -= size
                gone.append(name)
        for name in gone:
            with contextlib.suppress(OSError):
                (self.folder / name).unlink()
        if gone:
            _log.info("results.let_go", files=len(gone))


def _of_the_homes_group(folder: Path) -> None:
    """Make FOLDER, accessible only for its owner and the group of the home, which is the hub's.

    The worker is no member of that group, so it cannot chgrp: a new folder inherits the group by the home's
    set-group-ID bit, which chmod(2) would clear. A folder with another group or mode (of an earlier release) is made
    again and its files are moved.
    """
    before, home = folder.with_name(f"{folder.name}.before"), folder.parent
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = home.stat().st_gid, MODE | home.stat().st_mode & stat.S_ISGID
    if folder.exists() and (folder.stat().st_gid, stat.S_IMODE(folder.stat().st_mode)) != wanted:
        folder.rename(before)
    umask = os.umask(0)
    try:
        folder.mkdir(mode=MODE, exist_ok=True)
    finally:
        os.umask(umask)
    if before.is_dir():
        for file in before.iterdir():
            file.rename(folder / file.name)
        before.rmdir()


def _set_aside(path: Path, why: str) -> bool:
    """Rename PATH to `*.bad`; returns whether that succeeded."""
    names = (f"{path.name}{f'.{number}' if number else ''}{spool.BAD}" for number in itertools.count())
    target = next(free for name in names if not os.path.lexists(free := path.with_name(name)))
    try:
        path.rename(target)
    except OSError as error:
        _log.warning("spool.not_set_aside", reason=why, error=str(error))
        return False
    _log.warning("spool.set_aside", reason=why, name=target.name)
    return True
