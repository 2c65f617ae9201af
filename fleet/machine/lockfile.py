"""Lock files: a flock(2), which the kernel ends with its holder, in a file that names the holder's process.

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
    """Whether the lock is ours now; waits for nobody."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait(descriptor: int) -> None:
    """Until the lock is ours."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def holder(descriptor: int) -> str:
    """The process id that the file names, empty when it names none."""
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip()


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Wait for the lock of the file PATH, which is made where it is missing, and hold it. Raises OSError."""
    descriptor = opened(path)
    try:
        wait(descriptor)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held(descriptor: int, busy: Callable[[str], Exception]) -> Iterator[None]:
    """Hold the lock of an open file, which names this process meanwhile, and close it.

    Raises BUSY(the holder's process id) when another has it.
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
