"""Which processes belong to a lab, and their end.

A record of pids would miss what a crashed `up` had started and what those programs started in
turn. So membership is read from the kernel: a process belongs to a lab if its network namespace is
one of the lab's, or if its mounts include the lab's own folder (workers that moved to another
namespace keep those).
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import FleetError
from fleet.machine import processes
from lab.wires import NAMESPACES


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the lab: its pid, its namespace's name and its command line."""

    pid: int
    namespace: str
    command: str


def members(namespaces: Iterable[str], folder: Path) -> list[Member]:
    """Every process inside NAMESPACES or with FOLDER (the lab's `at`) among its mounts, but not this one."""
    inodes = {}
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            inodes[(NAMESPACES / name).stat().st_ino] = name
    return [
        member
        for pid in processes.pids()
        if pid != os.getpid() and (member := _member(processes.PROC / str(pid), inodes, folder)) is not None
    ]


def _member(path: Path, inodes: dict[int, str], folder: Path) -> Member | None:
    try:
        namespace = inodes.get((path / "ns/net").stat().st_ino)
        if namespace is None and not _mounts(path, folder):
            return None
        command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None  # it ended while we looked, or it is a zombie
    return Member(int(path.name), namespace or "?", command)


def _mounts(path: Path, folder: Path) -> bool:
    """Whether something below FOLDER is mounted for the process at PATH.

    Compared by device and place inside the file system: a container may have a lab at the same path, in another
    folder.
    """
    device, place = _inside_file_system(folder)
    with (path / "mountinfo").open() as lines:
        fields = (line.split(" ", 4) for line in lines)
        return any(found[2] == device and f"{found[3]}/".startswith(f"{place}/") for found in fields)


@functools.lru_cache(maxsize=8)
def _inside_file_system(folder: Path) -> tuple[str, str]:
    """FOLDER's device and its path inside that file system, as mountinfo names them (proc(5), fields 3 to 5)."""
    best = ("", "/", "/")
    with (processes.PROC / "self/mountinfo").open() as lines:
        for line in lines:
            _, _, device, root, point, _ = line.split(" ", 5)
            # Of several mounts on one place the last one is visible.
            if folder.is_relative_to(point) and len(point) >= len(best[2]):
                best = (device, root, point)
    device, root, point = best
    return device, str(Path(root) / folder.relative_to(point))


def end_all(namespaces: Iterable[str], folder: Path, deadline_seconds: float = 10) -> None:
    """Kill every member and wait until none is left, new ones included; raises FleetError naming those left."""
    deadline = time.monotonic() + deadline_seconds
    names = tuple(namespaces)
    while left := members(names, folder):
        if time.monotonic() > deadline:
            raise FleetError(f"these processes do not end: {', '.join(f'{one.pid} {one.command}' for one in left)}")
        for one in left:
            _kill(one, names, folder, deadline)


def _kill(one: Member, namespaces: tuple[str, ...], folder: Path, deadline: float) -> None:
    """Kill by a handle on the process, checked again: another process may have the pid by now."""
    try:
        process = processes.Handle(one.pid)
    except ProcessLookupError:
        return
    with process:
        inodes = {(NAMESPACES / name).stat().st_ino: name for name in namespaces if (NAMESPACES / name).exists()}
        if _member(processes.PROC / str(one.pid), inodes, folder) is not None:
            process.kill()
            process.wait(max(0.0, min(1.0, deadline - time.monotonic())))
