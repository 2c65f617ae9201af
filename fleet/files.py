"""Files that are whole after a power cut, and files in folders that somebody else owns."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def write_durably(path: Path, content: bytes, mode: int | None = None) -> None:
    """PATH holds CONTENT after this returns, also after a power cut; never half of it, and never with another MODE."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_foreign(path: Path | str, flags: int = 0, folder: int | None = None) -> int:
    """A descriptor to read PATH (below the open FOLDER), which its owner may have swapped for anything.

    No link is followed and no pipe is waited for; raises OSError.
    """
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=folder)


def read_foreign(path: Path | str, most_bytes: int, folder: int | None = None) -> bytes:
    """What such a PATH holds; raises OSError for all but an ordinary file of at most MOST_BYTES."""
    with open(open_foreign(path, folder=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "no ordinary file", str(path))
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"more than {most_bytes} bytes", str(path))
    return content
