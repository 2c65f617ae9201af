"""The workers' network namespaces as netctl uses them: a thread enters one for a single call and leaves it again.

CAP_SYS_ADMIN, which setns(2) needs, is permitted but not effective. It becomes effective only here, around that one
call, and only in the thread that moves. Root makes and removes the namespaces (fleet.machine.spaces).
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
    """The namespaces whose names are in FOLDER; keeps a descriptor of each, so that it outlives its name."""

    def __init__(self, folder: Path = Path("/nonexistent")) -> None:
        self._folder = folder
        self._host: int | None = None
        self._kept: dict[str, int] = {}
        self._before: dict[str, int] = {}
        """The descriptor of the namespace that had the name before: a thread may still be about to enter it."""
        self._counters: dict[str, int] = {}

    def known(self) -> frozenset[str]:
        """The names of all existing namespaces."""
        return spaces.bound(self._folder)

    def there(self, space: str) -> bool:
        """Whether refresh() has found a namespace of that name."""
        return space == HOST or space in self._kept

    def refresh(self, space: str) -> bool:
        """Look up the name SPACE; returns whether another namespace has it now. A missing name changes nothing."""
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
        """With REMOVE, remove the name of SPACE; else only check that it is known, as `serve` cannot make one.

        Raises SpaceGone.
        """
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
        """A number that stays the same as long as the name refers to the same namespace."""
        return 0 if space == HOST else os.fstat(self.descriptor(space)).st_ino

    def descriptor(self, space: str) -> int:
        """The descriptor of SPACE; raises SpaceGone."""
        try:
            return self._kept[space]
        except KeyError:
            raise SpaceGone(
                f"the network namespace {self._folder / space} is not there",
                hint=f"fleet supervisorctl restart worker:{space.removeprefix('fleet-')} (its start makes it again)",
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
                # A thread left in SPACE would do the host's work there.
                os._exit(ExitCode.FAILED)

    def counters(self) -> str:
        """The counters of the links in the host and in every namespace, as one /proc/net/dev (proc_pid_net(5))."""
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
    """Make CAP_SYS_ADMIN effective in this thread, and restore the capabilities afterwards."""
    held = syscalls.capabilities()
    syscalls.set_capabilities(held._replace(effective=held.effective | 1 << CAP_SYS_ADMIN))
    try:
        yield
    finally:
        syscalls.set_capabilities(held)


class PerSpace(Generic[T]):
    """One T for each namespace, made in it at its first use, and again when another namespace gets its name.

    For one thread.
    """

    def __init__(self, where: Spaces, make: Callable[[str], T], end: Callable[[T], None]) -> None:
        self._where = where
        self._make = make
        self._end = end
        self._kept: dict[str, tuple[int, T]] = {}

    def at(self, space: str) -> T:
        """The T of SPACE; call it inside SPACE."""
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
