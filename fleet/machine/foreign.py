"""Lets root read files that a worker owns: its home lies in a folder of root's, but below it anything may lie.

An attacker who has taken over a worker may replace a folder by a link, put a pipe, an endless file or a link to a
secret under the name of a result, and change it while it is read. So every path is opened beneath the home and through
no link (openat2(2)), everything opened must belong to the worker, and bytes, names and seconds are bounded.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path
from types import TracebackType

from fleet.machine.syscalls import open_beneath

MOST_NAMES = 200_000
"""The most names that are read from a folder."""
LIST_SECONDS = 2.0
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Open does not wait for a pipe or a lease (fcntl(2), F_SETLEASE), and gets no controlling terminal."""


class Folder:
    """The open folder BELOW in the home HOME: later changes of its path have no effect.

    Raises OSError when it is no folder, or belongs to another user than HOME.
    """

    def __init__(self, home: Path, below: str) -> None:
        top = os.open(home, _FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW)  # in root's folder: no other user can replace it
        try:
            self.path = home / below
            self._owner = os.fstat(top).st_uid
            self._descriptor = self._open(top, below, os.O_DIRECTORY)
        finally:
            os.close(top)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.close(self._descriptor)

    def names(self) -> tuple[list[str], bool]:
        """The names in it, and whether these are all: it stops at MOST_NAMES and after LIST_SECONDS."""
        found: list[str] = []
        deadline = time.monotonic() + LIST_SECONDS
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                if len(found) == MOST_NAMES or (len(found) % 1000 == 999 and time.monotonic() > deadline):
                    return found, False
                found.append(entry.name)
        return found, True

    def state(self, name: str) -> tuple[int, int, int] | None:
        """A value that changes when the file NAME changes, its mtime first (ns); None when there is no such file."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino

    def read(self, name: str, most_bytes: int) -> bytes:
        """The content of NAME; raises OSError unless it is an ordinary file of the owner of at most MOST_BYTES."""
        with os.fdopen(self._open(self._descriptor, name, 0), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "no ordinary file", name)
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", name)
        return content

    def _open(self, folder: int, path: str, flags: int) -> int:
        descriptor = open_beneath(folder, path, _FLAGS | flags)
        if (found := os.fstat(descriptor)).st_uid != self._owner:
            os.close(descriptor)
            raise OSError(errno.EPERM, f"it belongs to UID {found.st_uid} and not to {self._owner}", path)
        return descriptor
