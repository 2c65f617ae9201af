"""The workers' network namespaces, from netctl's side: entered for one call at a time, and never left open.

CAP_SYS_ADMIN, which setns(2) asks for, is permitted but not effective: only here, around that one call, and only
in the thread that moves. Root makes and removes the namespaces (fleet.machine.spaces).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from fleet.errors import ExitCode, SpaceGone
from fleet.isolation import HOST
from fleet.machine import spaces, syscalls

CAP_SYS_ADMIN = 21
"""linux/capability.h."""
_LONGEST_BYTES = 1 << 16
T = TypeVar("T")


class Spaces:
    """The namespaces whose names lie in FOLDER; a descriptor is kept of each, so that it outlives its name."""

    def __init__(self, folder: Path = Path("/nonexistent")) -> None:
        self._folder = folder
        self._host: int | None = None
        self._kept: dict[str, int] = {}
        self._before: dict[str, int] = {}
        """Of the namespace that had the name before: a thread may still be about to enter it."""
        self._counters: dict[str, int] = {}

    def known(self) -> frozenset[str]:
        """The names of all there are."""
        return spaces.bound(self._folder)

    def there(self, space: str) -> bool:
        """Whether a namespace of that name has been found, by refresh()."""
        return space == HOST or space in self._kept

    def refresh(self, space: str) -> bool:
        """Look the name SPACE up; whether another namespace has it than before. A name that is gone changes nothing."""
        path, kept = self._folder / space, self._kept.get(space)
        if space == HOST or not spaces.is_bound(path):
            return False
        if kept is not None and os.fstat(kept).st_ino == path.stat().st_ino:
            return False
        if self._host is None:
            self._host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._kept[space] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if kept is not None:
            self._forget(space, kept)
        self._counters[space] = self.inside(space, _open_counters)
        return kept is not None

    def _forget(self, space: str, kept: int) -> None:
        for old in (self._before.pop(space, None), self._counters.pop(space, None)):
            if old is not None:
                os.close(old)
        self._before[space] = kept

    def change(self, space: str, *, remove: bool) -> None:
        """Remove the name of SPACE; who serves can neither do that nor make one. Raises SpaceGone."""
        if not remove:
            self.descriptor(space)
            return
        try:
            spaces.remove(self._folder / space)
        except OSError as error:
            raise SpaceGone(f"{self._folder / space} cannot be removed: {error.strerror}", hint="fleet down") from None
        if (kept := self._kept.pop(space, None)) is not None:
            self._forget(space, kept)

    def identity(self, space: str) -> int:
        """The same number as long as the name stands for the same namespace."""
        return 0 if space == HOST else os.fstat(self.descriptor(space)).st_ino

    def descriptor(self, space: str) -> int:
        """An open file that stands for SPACE; raises SpaceGone."""
        try:
            return self._kept[space]
        except KeyError:
            raise SpaceGone(
                f"the network namespace {self._folder / space} is not there",
                hint=f"fleet supervisorctl restart worker:{space.removeprefix('fleet-')} (its start makes another)",
            ) from None

    def inside(self, space: str, work: Callable[[], T]) -> T:
        """Do WORK in SPACE, in this thread. Raises SpaceGone."""
        if space == HOST:
            return work()
        descriptor = self.descriptor(space)
        assert self._host is not None
        _enter(descriptor)
        try:
            return work()
        finally:
            try:
                _enter(self._host)
            except OSError:
                # A thread astray would do the host's work in here, and the other way round.
                os._exit(ExitCode.FAILED)

    def counters(self) -> str:
        """The links' counters of the host and of every space, as one /proc/net/dev (proc_pid_net(5))."""
        text = Path("/proc/self/net/dev").read_text()
        for descriptor in self._counters.values():
            text += os.pread(descriptor, _LONGEST_BYTES, 0).decode().split("\n", 2)[2]
        return text

    def close(self) -> None:
        host = [] if self._host is None else [self._host]
        for descriptor in (*self._kept.values(), *self._before.values(), *self._counters.values(), *host):
            os.close(descriptor)
        self._kept, self._before, self._counters, self._host = {}, {}, {}, None


def _open_counters() -> int:
    return os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)


def _enter(descriptor: int) -> None:
    with _raised():
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)


@contextlib.contextmanager
def _raised() -> Iterator[None]:
    """CAP_SYS_ADMIN effective in this thread, and then what was effective before."""
    held = syscalls.capabilities()
    syscalls.set_capabilities(held._replace(effective=held.effective | 1 << CAP_SYS_ADMIN))
    try:
        yield
    finally:
        syscalls.set_capabilities(held)


class PerSpace(Generic[T]):
    """One T for each namespace, made inside it at its first use, and again where another namespace has its name.

    For one thread.
    """

    def __init__(self, where: Spaces, make: Callable[[str], T], end: Callable[[T], None]) -> None:
        self._where = where
        self._make = make
        self._end = end
        self._kept: dict[str, tuple[int, T]] = {}

    def at(self, space: str) -> T:
        """That of SPACE; call it inside."""
        identity = self._where.identity(space)
        if space in self._kept:
            made_for, kept = self._kept[space]
            if made_for == identity:
                return kept
            self._end(kept)
        made = self._make(space)
        self._kept[space] = identity, made
        return made

    def close(self) -> None:
        for _, kept in self._kept.values():
            self._end(kept)
        self._kept.clear()
