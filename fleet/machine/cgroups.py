"""Limits of memory and processes and a share of processor and disk for each worker, by a control group of its own.

    fleet.service/              delegated to the fleet (Delegate= in deploy/fleet.service), holds no process itself
        supervisor/             `fleet up`, supervisord, netctl, tunnels: before every worker
        w1101/ w1102/ ...       a worker with its browser

Of cgroup v2, and only inside a group that systemd has delegated to the fleet. Standard library only: the worker's
launcher runs this as root.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

CONTROLLERS = frozenset({"memory", "pids"})
"""Without these a group holds nothing."""
_WEIGHTS = ("cpu", "io")
"""Controllers that only divide what there is; kernels without one go on without."""
_FIRST = 10_000
"""The largest weight (cgroup-v2.rst): what carries every worker's packets does not wait for their browsers."""
SUPERVISOR = "supervisor"
_DELEGATED = ("trusted.delegate", "user.delegate")
"""Extended attributes that systemd puts on a group it has delegated, since versions 234 and 251."""


def own(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of this process's group; None without cgroup v2, or where no mount shows it."""
    found = _mounted(proc)
    return found and found[0] / found[1]


def top(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of the highest group that is shown here (in a container its own), or None like own()."""
    found = _mounted(proc)
    return found and found[0]


def _mounted(proc: Path) -> tuple[Path, Path] | None:
    """Where the hierarchy that this process's group is in is mounted, and the group below that."""
    groups = (proc / "cgroup").read_text(encoding="utf-8").splitlines()
    name = next((line.partition("::")[2] for line in groups if line.startswith("0::")), None)
    if name is None:
        return None
    for line in (proc / "mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split()[3:5]
        if after.split()[0] == "cgroup2" and Path(name).is_relative_to(root):
            return Path(place), Path(name).relative_to(root)
    return None


def divide(group: Path) -> bool:
    """Prepare GROUP, the group of this process, for groups of workers; False when that is not possible.

    It must be delegated to the fleet, with memory and pids, and hold no other process. This process moves to a group
    beside the workers' groups: a group whose children have controllers may hold no process itself (cgroups(7), "no
    internal processes").
    Raises OSError (a container may show its groups and let nobody write).
    """
    if is_divided(group):
        return True
    ours = {str(os.getpid()), str(os.getppid())}  # bin/fleet may be a shell that waits for us
    if not (_is_delegated(group) and _words(group / "cgroup.controllers") >= CONTROLLERS):
        return False
    if not (inside := _words(group / "cgroup.procs")) <= ours:
        return False
    below = group / SUPERVISOR
    below.mkdir(exist_ok=True)
    for process in inside:
        (below / "cgroup.procs").write_text(process, encoding="ascii")
    (group / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
    for controller in _WEIGHTS:
        # Not delegated (an older unit), not there, or EINVAL beside realtime processes.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        _weigh(below, controller, _FIRST)
    return True


def is_divided(group: Path) -> bool:
    """Whether GROUP is the supervisor's group inside a divided group."""
    handed_down = group.parent / "cgroup.subtree_control"
    return group.name == SUPERVISOR and handed_down.exists() and _words(handed_down) >= CONTROLLERS


def of_worker(name: str, group: Path | None) -> Path | None:
    """The group of worker NAME, for a launcher that runs in GROUP; None: there are no groups here.

    Below a group that is not divided it has no controllers; its sockets are counted all the same (launcher.sockets).
    """
    if group is None:
        return None
    return (group.parent if is_divided(group) else group) / name


def enter(group: Path) -> None:
    """Move this process and all that it starts to GROUP. Raises OSError."""
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text("0", encoding="ascii")  # 0: the writer


def leave(group: Path) -> None:
    """GROUP goes, unless somebody else is in it."""
    with contextlib.suppress(OSError):
        group.rmdir()


def join(group: Path, *, memory_mebibytes: int, processes: int, cpu_weight: int, io_weight: int) -> None:
    """Enter GROUP, one of a divided group's, with these limits; 0 MiB: no limit. Raises OSError."""
    group.mkdir(exist_ok=True)
    memory = str(memory_mebibytes << 20) if memory_mebibytes else "max"
    (group / "memory.max").write_text(memory, encoding="ascii")
    (group / "pids.max").write_text(str(processes), encoding="ascii")
    swap = group / "memory.swap.max"
    if swap.exists():  # not where the kernel does not count swap
        # A browser over its limit would else push the whole host into swap.
        swap.write_text("0" if memory_mebibytes else "max", encoding="ascii")
    for controller, weight in zip(_WEIGHTS, (cpu_weight, io_weight), strict=True):
        _weigh(group, controller, weight)
    enter(group)


def _weigh(group: Path, controller: str, weight: int) -> None:
    """The share of GROUP where there is not enough for all; no such file where the kernel does not divide that."""
    path = group / f"{controller}.weight"
    if path.exists():
        path.write_text(str(weight), encoding="ascii")


def _is_delegated(group: Path) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _words(path: Path) -> frozenset[str]:
    return frozenset(path.read_text(encoding="ascii").split())
