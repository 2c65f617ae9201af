"""The place of every file and folder, all under one prefix that FLEET_ROOT sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.numbers import Worker


class _Below:
    """A path below the root of a Paths."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __get__(self, paths: Paths, _: object) -> Path:
        return paths.root / self._place


@dataclass(frozen=True)
class Paths:
    """All paths, under one prefix that FLEET_ROOT sets (default `/`)."""

    root: Path = Path("/")

    config = _Below("etc/fleet/fleet.toml")
    """Written by the operator; only the operator's program reads it."""
    tasks = _Below("etc/fleet/tasks")
    """The operator's own tasks, Python files; workers import them, root does not."""
    run = _Below("run/fleet")
    state = _Below("var/lib/fleet")
    logs = _Below("var/log/fleet")
    netctl_socket = _Below("run/fleet/netctl/netctl.sock")
    """In a folder of its own, which belongs to netctl and the workers' group."""
    netctl_lock = _Below("run/fleet/netctl/netctl.lock")
    netctl_operator_socket = _Below("run/fleet/operator/netctl.sock")
    """The operators' socket, in a folder of their group; missing when there is no such group."""
    spaces = _Below("run/netns")
    """The names of the workers' network namespaces; without FLEET_ROOT this is the folder of `ip netns`."""
    key_store = _Below("var/lib/fleet/netctl/keys.db")
    """SQLite file with private keys and leases; only netctl (and root) can read it."""
    hub_socket = _Below("run/fleet/hub/hub.sock")
    """In a folder of its own, like netctl's."""
    hub_database = _Below("var/lib/fleet/hub/hub.db")
    """The database of a fleet on one host; several hosts share a PostgreSQL."""
    hub_host = _Below("var/lib/fleet/hub/host")
    """The name of this host in the queue."""
    keyservice_socket = _Below("run/fleet/keyservice/keyservice.sock")
    """In a folder of its own; only netctl is answered there."""
    snapshot = _Below("run/fleet/settings/fleet.json")
    """The settings of the running fleet (fleet.snapshot), in a folder that the fleet's users may read."""
    supervisor_socket = _Below("run/fleet/supervisor.sock")
    supervisor_config = _Below("run/fleet/supervisord.conf")
    supervisor_pid = _Below("run/fleet/supervisord.pid")
    operator_lock = _Below("run/fleet/operator.lock")
    """The lock of the operator's command that starts or stops workers."""
    acts_socket = _Below("run/fleet/acts/acts.sock")
    """In a folder that only the hub may enter (fleet.sockets.acts_api)."""
    given_up = _Below("run/fleet/rearm/given-up.json")
    """The programs that supervisord has given up (fleet.given_up), in a folder that the hub may enter."""
    run_order = _Below("run/fleet/run.json")
    """The order of `fleet run` to the workers; missing: they loop forever."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Paths:
        """The paths of this process."""
        return cls(root=Path(environment.get("FLEET_ROOT", "/")))

    def space(self, worker: Worker) -> Path:
        """The file that WORKER's network namespace is bound to."""
        return self.spaces / worker.space

    def home(self, worker: Worker) -> Path:
        """HOME of a worker: it belongs to the worker and the hub's group, mode 2750."""
        return self.state / "workers" / worker.name

    def spool(self, worker: Worker) -> Path:
        """The results of a worker (JSON and pictures), written with fsync and rename."""
        return self.home(worker) / "spool"

    def launch_spec(self, worker: Worker) -> Path:
        """The file that the launcher reads as root before it becomes the worker."""
        return self.run / "launch" / f"{worker.name}.json"

    def worker_lock(self, worker: Worker) -> Path:
        return self.run / "locks" / f"{worker.name}.lock"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"


def home() -> Path:
    """FLEET_HOME, the folder of environments and releases: this release's, else bin/setup's default."""
    release = Path(__file__).resolve().parents[1]
    own = release.parent.parent if release.parent.name == "release" else Path("/opt/fleet")
    return Path(os.environ.get("FLEET_HOME", own))
