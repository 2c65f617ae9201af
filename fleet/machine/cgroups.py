"""A control group for each worker, with limits of memory and processes and shares of processor and disk.

    fleet.service/              delegated to the fleet (Delegate= in deploy/fleet.service), holds no process itself
        supervisor/             `fleet up`, supervisord, netctl, tunnels: before every worker
        w1101/ w1102/ ...       a worker with its browser

cgroup v2 only, and only inside a group that systemd has delegated to the fleet. Standard library only: the worker's
launcher runs this as root.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

CONTROLLERS = frozenset({"memory", "pids"})
"""Without these a group limits nothing."""
_WEIGHTS = ("cpu", "io")
"""Controllers that only set shares; they are not used on kernels without them."""
_FIRST = 10_000
"""The largest weight (cgroup-v2.rst): the programs that carry all workers' packets must not wait for browsers."""
SUPERVISOR = "supervisor"
_DELEGATED = ("trusted.delegate", "user.delegate")
"""Extended attributes that systemd sets on a delegated group, since versions 234 and 251."""


def own(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of this process's group; None without cgroup v2, or where no mount shows it."""
    found = _mounted(proc)
    return found and found[0] / found[1]


def top(proc: Path = Path("/proc/self")) -> Path | None:
    """The folder of the topmost visible group (in a container the container's own), or None like own()."""
    found = _mounted(proc)
    return found and found[0]


def _mounted(proc: Path) -> tuple[Path, Path] | None:
    """The mount point of the cgroup v2 hierarchy, and this process's group relative to it."""
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

    It must be delegated to the fleet, with memory and pids, and hold no other process. This process moves to the group
    `supervisor` beside the workers' groups: a group whose children have controllers may hold no process itself
    (cgroups(7), "no internal processes").
    Raises OSError (in a container the groups may be visible but not writable).
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
        # Not delegated (an older unit), not in this kernel, or EINVAL because of realtime processes.
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        _weigh(below, controller, _FIRST)
    return True


def is_divided(group: Path) -> bool:
    """Whether GROUP is the supervisor's group inside a divided group."""
    handed_down = group.parent / "cgroup.subtree_control"
    return group.name == SUPERVISOR and handed_down.exists() and _words(handed_down) >= CONTROLLERS


def of_worker(name: str, group: Path | None) -> Path | None:
    """The group of worker NAME, for a launcher that runs in GROUP; None when there are no groups here.

    Below a group that is not divided it has no controllers, but its sockets are still counted (launcher.sockets).
    """
    if group is None:
        return None
    return (group.parent if is_divided(group) else group) / name


def enter(group: Path) -> None:
    """Move this process, and so all its later children, to GROUP, which is made if needed. Raises OSError."""
    group.mkdir(exist_ok=True)
    (group / "cgroup.procs").write_text("0", encoding="ascii")  # 0: the writing process


def leave(group: Path) -> None:
    """Remove GROUP, unless a process is still in it."""
    with contextlib.suppress(OSError):
        group.rmdir()


def join(group: Path, *, memory_mebibytes: int, processes: int, cpu_weight: int, io_weight: int) -> None:
    """Enter GROUP, a child of a divided group, with these limits; 0 MiB: no limit. Raises OSError."""
    group.mkdir(exist_ok=True)
    memory = str(memory_mebibytes << 20) if memory_mebibytes else "max"
    (group / "memory.max").write_text(memory, encoding="ascii")
    (group / "pids.max").write_text(str(processes), encoding="ascii")
    swap = group / "memory.swap.max"
    if swap.exists():  # missing when the kernel does not account for swap
        # Without this a browser over its limit would fill the host's swap.
        swap.write_text("0" if memory_mebibytes else "max", encoding="ascii")
    for controller, weight in zip(_WEIGHTS, (cpu_weight, io_weight), strict=True):
        _weigh(group, controller, weight)
    enter(group)


def _weigh(group: Path, controller: str, weight: int) -> None:
    """Set the weight of GROUP if the kernel has this controller."""
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
