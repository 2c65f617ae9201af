"""Writes files that are complete even after a power failure."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_durably(path: Path, content: bytes, mode: int | None = None) -> None:
    """Replace PATH by CONTENT, atomically and durably, even in a power failure; it never has another MODE.

    Raises OSError, which names PATH.
    """
    try:
        _write_durably(path, content, mode)
    except OSError as error:
        error.filename = str(path)  # errors of write(2) have no file name
        raise


def _write_durably(path: Path, content: bytes, mode: int | None) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with open(fresh, "wb", opener=lambda path, flags: os.open(path, flags, 0o666 if mode is None else mode)) as file:
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


def is_full(error: BaseException) -> bool:
    """Whether ERROR says that the disk, or the writer's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
