"""Where everything lies on disk, all under one prefix that FLEET_ROOT moves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fleet.numbers import Worker


class Paths(BaseModel):
    """Where things lie, all under one prefix that FLEET_ROOT moves (default `/`)."""

    model_config = ConfigDict(frozen=True)
    root: Path = Path("/")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Paths:
        """The places of this process."""
        return cls(root=Path(environment.get("FLEET_ROOT", "/")))

    @property
    def config(self) -> Path:
        """What the operator writes; only the operator's program reads it."""
        return self.root / "etc/fleet/fleet.toml"

    @property
    def run(self) -> Path:
        return self.root / "run/fleet"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/fleet"

    @property
    def logs(self) -> Path:
        return self.root / "var/log/fleet"

    @property
    def netctl_socket(self) -> Path:
        """In a folder of its own: its owner is netctl, its group the workers'."""
        return self.run / "netctl/netctl.sock"

    @property
    def netctl_operator_socket(self) -> Path:
        """The operators' door, in a folder of their group; absent where there is no such group."""
        return self.run / "operator/netctl.sock"

    @property
    def spaces(self) -> Path:
        """The names of the workers' network namespaces; without FLEET_ROOT the folder of `ip netns`."""
        return self.root / "run/netns"

    def space(self, worker: Worker) -> Path:
        """The name of WORKER's network namespace: a file that the namespace is bound to."""
        return self.spaces / worker.space

    @property
    def key_store(self) -> Path:
        """SQLite file with private keys and leases; only netctl can read it."""
        return self.state / "netctl/keys.db"

    @property
    def snapshot(self) -> Path:
        """The settings of the fleet that runs (fleet.snapshot), in a folder that its own users may look into."""
        return self.run / "settings/fleet.json"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def supervisor_config(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        return self.run / "supervisord.pid"

    @property
    def gate(self) -> Path:
        """Folder of lock files that bound the browser starts at one time."""
        return self.run / "gate"

    @property
    def run_order(self) -> Path:
        """What `fleet run` asks of the workers; absent: they loop for ever."""
        return self.run / "run.json"

    @property
    def host_addresses(self) -> Path:
        """Written by `fleet up`: the addresses the host shows without a tunnel, one a line."""
        return self.run / "host-addresses"

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
