"""Where everything lies on disk, all under one prefix that FLEET_ROOT moves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.numbers import Worker


class _Below:
    """A place below the root of a Paths."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __get__(self, paths: Paths, _: object) -> Path:
        return paths.root / self._place


@dataclass(frozen=True)
class Paths:
    """Where things lie, all under one prefix that FLEET_ROOT moves (default `/`)."""

    root: Path = Path("/")

    config = _Below("etc/fleet/fleet.toml")
    """What the operator writes; only the operator's program reads it."""
    tasks = _Below("etc/fleet/tasks")
    """Tasks of the operator's own, Python files; workers import them, and root does not."""
    run = _Below("run/fleet")
    state = _Below("var/lib/fleet")
    logs = _Below("var/log/fleet")
    netctl_socket = _Below("run/fleet/netctl/netctl.sock")
    """In a folder of its own: its owner is netctl, its group the workers'."""
    netctl_lock = _Below("run/fleet/netctl/netctl.lock")
    netctl_operator_socket = _Below("run/fleet/operator/netctl.sock")
    """The operators' door, in a folder of their group; absent where there is no such group."""
    spaces = _Below("run/netns")
    """The names of the workers' network namespaces; without FLEET_ROOT the folder of `ip netns`."""
    key_store = _Below("var/lib/fleet/netctl/keys.db")
    """SQLite file with private keys and leases; only netctl can read it."""
    hub_socket = _Below("run/fleet/hub/hub.sock")
    """In a folder of its own, as netctl's is."""
    hub_database = _Below("var/lib/fleet/hub/hub.db")
    """Of a fleet of one host; many share a PostgreSQL."""
    keyservice_socket = _Below("run/fleet/keyservice/keyservice.sock")
    """In a folder of its own: netctl alone is answered there."""
    snapshot = _Below("run/fleet/settings/fleet.json")
    """The settings of the fleet that runs (fleet.snapshot), in a folder that its own users may look into."""
    supervisor_socket = _Below("run/fleet/supervisor.sock")
    supervisor_config = _Below("run/fleet/supervisord.conf")
    supervisor_pid = _Below("run/fleet/supervisord.pid")
    operator_lock = _Below("run/fleet/operator.lock")
    """Held by the operator's command that starts or stops workers."""
    acts_socket = _Below("run/fleet/acts/acts.sock")
    """In a folder that the hub alone may look into (fleet.sockets.acts_api)."""
    given_up = _Below("run/fleet/rearm/given-up.json")
    """What supervisord has given up (fleet.given_up), in a folder that the hub may look into."""
    run_order = _Below("run/fleet/run.json")
    """What `fleet run` asks of the workers; absent: they loop for ever."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Paths:
        """The places of this process."""
        return cls(root=Path(environment.get("FLEET_ROOT", "/")))

    def space(self, worker: Worker) -> Path:
        """The name of WORKER's network namespace: a file that the namespace is bound to."""
        return self.spaces / worker.space

    def home(self, worker: Worker) -> Path:
        """HOME of a worker, 0700."""
        return self.state / "workers" / worker.name

    def spool(self, worker: Worker) -> Path:
        """Finished results of a worker (JSON and PNG), written with fsync and rename."""
        return self.home(worker) / "spool"

    def launch_spec(self, worker: Worker) -> Path:
        """What the launcher reads as root before it becomes the worker."""
        return self.run / "launch" / f"{worker.name}.json"

    def worker_lock(self, worker: Worker) -> Path:
        return self.run / "locks" / f"{worker.name}.lock"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"


def home() -> Path:
    """FLEET_HOME, where a set-up keeps environments and releases: that of this release, else bin/setup's."""
    release = Path(__file__).resolve().parents[1]
    own = release.parent.parent if release.parent.name == "release" else Path("/opt/fleet")
    return Path(os.environ.get("FLEET_HOME", own))
