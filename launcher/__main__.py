"""The last step as root for one worker: `launcher SPEC` (JSON, written by `worker prepare`) becomes the worker.

    account checked -> lock of the UID -> leftovers killed -> own network namespace (isolation netns)
        -> own PID and IPC namespaces -> own control group -> own mounts -> limits -> Landlock -> seccomp
        -> capabilities and UID dropped -> exec

It runs as root before every worker, so it imports only the standard library and a few files of fleet.
All its input is in SPEC, which only root can have written.
"""

from __future__ import annotations

import base64
import os
import stat
import sys
from pathlib import Path
from typing import NoReturn

from fleet.errors import ConfigurationError, ExitCode, FleetError, NotAllowed
from fleet.launch_spec import LaunchSpec
from fleet.machine import cgroups, processes, syscalls
from launcher import landlock, mounts, sockets
from launcher.account import check_account, sweep, take_lock
from launcher.namespaces import own_network, own_processes
from launcher.privileges import drop, limit


def main() -> NoReturn:
    """Become the worker, or print in one line why that is not possible."""
    try:
        become(read_spec(Path(sys.argv[1])))
    except FleetError as refusal:
        print(f"launcher: {refusal}", file=sys.stderr)  # noqa: T201 - this program's only output
        if refusal.exit_code in ExitCode.final():
            processes.outlive(processes.WORKER_START_SECONDS)
        sys.exit(refusal.exit_code)
    except OSError as error:
        print(f"launcher: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.TRY_LATER)


def become(spec: LaunchSpec) -> NoReturn:
    """Run all steps in order; the last one replaces this program with the worker."""
    gid = check_account(spec)
    take_lock(spec)  # held until this process and process 1 end; the worker does not inherit it and cannot open it
    sweep(spec.uid)
    own_network(spec.space)
    inside = own_processes(spec.death_signal, spec.cgroup)
    if spec.cgroup:  # before the mounts: after them the group can only be read
        _own_group(spec, Path(spec.cgroup))
    mounts.make(spec, gid)
    limit(spec)
    landlock.restrict(spec.ports)
    syscalls.filter_calls(base64.b64decode(spec.denied_calls))
    drop(spec, gid)
    inside.fork_worker()
    os.chdir(spec.home)
    os.execve(spec.argv[0], spec.argv, spec.environment)


def _own_group(spec: LaunchSpec, group: Path) -> None:
    if divided := cgroups.is_divided(group.parent / cgroups.SUPERVISOR):
        cgroups.join(
            group,
            memory_mebibytes=spec.memory_mebibytes,
            processes=spec.processes,
            cpu_weight=spec.cpu_weight,
            io_weight=spec.io_weight,
        )
    try:
        if not divided:
            cgroups.enter(group)
        sockets.limit(group, spec.sockets)
    except OSError as error:  # an older kernel, or a container whose control groups are read-only
        print(f"launcher: the number of sockets is not limited: {error}", file=sys.stderr)  # noqa: T201


def read_spec(path: Path) -> LaunchSpec:
    """The spec at PATH; refuses a file that anybody but root could have written."""
    if os.geteuid() != 0:
        raise NotAllowed("needs root; supervisord starts it")
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise NotAllowed(f"{path} must belong to root and be writable by root alone")
            return LaunchSpec.of_json(file.read())
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is not there; run: fleet up") from None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is no launch spec ({error}); run: fleet up") from None


if __name__ == "__main__":
    main()
