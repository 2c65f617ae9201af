"""Lock files: a flock(2), which the kernel releases when the holder ends, on a file that names the holder's process.

Standard library only: the worker's launcher runs this as root.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def opened(path: Path, *, make: bool = True) -> int:
    """A descriptor of the lock file PATH; with MAKE a missing one is made. Raises OSError, also for a link."""
    return os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def take(descriptor: int) -> bool:
    """Try to take the lock, without waiting; returns whether it is ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait(descriptor: int) -> None:
    """Wait until the lock is ours."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def holder(descriptor: int) -> str:
    """The process id in the file; empty when there is none."""
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip()


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Wait for the lock on the file PATH and hold it in the block; the file is removed at the end. Raises OSError."""
    while True:
        descriptor = opened(path)
        try:
            wait(descriptor)
            if not os.fstat(descriptor).st_nlink:  # the holder before us has removed it: lock the next one
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


@contextmanager
def held(descriptor: int, busy: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock on an open file in the block, write this process's id into it, and close it at the end.

    Raises BUSY(the holder's process id) when another process has the lock.
    """
    try:
        if not take(descriptor):
            raise busy(holder(descriptor) or "?")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
