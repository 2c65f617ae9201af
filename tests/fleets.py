"""A fleet in a lab's host, built from small parts: settings and keys, netctl alone, its clients, or the whole fleet.

The tools that tests judge by (`ip`, `nft`, `wg`, tcpdump) run in the lab's host too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fleet import snapshot, status
from fleet.backends import USERSPACE
from fleet.model import Fleet, Worker
from fleet.operate import accounts, configuration, folders, prepare
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from lab import run
from lab.net import Lab
from tests import key_stores
from tests.inside import PIPES, Client, program
from tests.waiting import until

CHECKOUT = Path(__file__).resolve().parents[1]
FREE = Worker(uid=4321)
"""A UID of no worker: the positive control for what a worker may not do."""
NETWORK_TOOLS = {"ip", "nft", "ss", "conntrack", "sysctl", "sh"}
"""Programs that need only the host's network namespace: entering that takes 5 ms, entering the whole host 200 ms."""
QUICK: run.Changes = {
    "wireguard": {"backend": "userspace"},
    "netctl": {"key_requests_per_second": 1000, "key_requests_burst": 1000},
}
"""Settings of every Rig: tests take keys faster than any worker does."""

ONE_LOOP: run.Changes = {"loop": {"pause_seconds": 600}}
"""Workers rest after their first loop: browsers that keep loading take processor time from what a test checks."""


class Host:
    """A lab's host with settings for COUNT workers, changed by CHANGES (by table); it only writes fleet.toml."""

    usual: run.Changes = run.NO_CHANGES

    def __init__(
        self,
        lab: Lab,
        count: int = 1,
        *,
        first_uid: int = 1101,
        isolation: str = "uid",
        changes: run.Changes = run.NO_CHANGES,
    ) -> None:
        self.lab, self.paths, self.count, self.first_uid = lab, run.paths(lab), count, first_uid
        self.changes: run.Changes = {"": {"isolation": isolation}, **changes}
        self.processes: list[subprocess.Popen[str]] = []
        self.configure()

    def configure(self, more: run.Changes = run.NO_CHANGES) -> None:
        """Write fleet.toml, with MORE changes on top."""
        tables = run.settings(self.lab, self.count, first_uid=self.first_uid)
        for changes in (self.usual, self.changes, more):
            for table, keys in changes.items():
                # Options given for another task replace the lab's own.
                kept = {} if table == "task.options" else tables.get(table, {})
                tables[table] = {**kept, **keys}
        self.paths.config.parent.mkdir(parents=True, exist_ok=True)
        self.paths.config.write_text(run.toml(tables), encoding="utf-8")
        self.__dict__.pop("fleet", None)

    @cached_property
    def fleet(self) -> Fleet:
        """The settings as they are now."""
        return configuration.load(self.paths.config)

    @cached_property
    def installation(self) -> Installation:
        """This checkout's programs, in a place that every UID can read."""
        python, _, launch, *_ = run.program("netctl")
        return Installation(paths=self.paths, python=Path(python), release=Path(launch).parent)

    def worker(self, index: int = 0) -> Worker:
        """The worker at INDEX."""
        return self.fleet.members[index]

    def lay_out(self) -> None:
        """Make accounts, folders and the snapshot of the settings, as `fleet up` does."""
        accounts.ensure(self.fleet)
        for folder in folders.wanted(self.fleet, self.paths):
            folders.make(folder)
        self.write_snapshot()

    def write_snapshot(self) -> None:
        """Write the current settings to the snapshot; programs that start from here on use them."""
        snapshot.write(Snapshot(release=self.installation.release, fleet=self.fleet), self.paths)

    def prepare(self, *keys: str) -> None:
        """Make the accounts by the operator's command, and import the lab's KEYS (patterns) into netctl's pool."""
        self.operate("accounts", "make", check=True)
        self.import_keys(*keys or ("*.conf",))

    def stop(self) -> None:
        """End what was started here."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait(10)

    # --- programs

    def host(self, argv: Sequence[str], *, at: str = "host", **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run any program as root inside the host, or inside the lab's host AT, or deeper (see inside())."""
        settings = {"timeout": 60, **settings}
        deeper = argv[0] == "nsenter" and argv[1].startswith("--net=") and argv[2] in NETWORK_TOOLS
        if not deeper and argv[0] not in NETWORK_TOOLS:
            return self.lab.run(at, argv, **settings)
        into = [] if deeper else ["nsenter", f"--net=/run/netns/{self.lab.topology.namespace(at)}", "--"]
        settings = {"capture_output": True, "text": True, **settings}
        return subprocess.run([*into, *argv], check=settings.pop("check", False), **settings)

    def there(self, argv: Sequence[str], index: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run any program as root where the worker at INDEX has its tunnel: in the host, or in its own namespace."""
        return self.host(self.inside(self.worker(index), argv), **settings)

    def everywhere(self, argv: Sequence[str], **settings: Any) -> list[subprocess.CompletedProcess[str]]:
        """Run a program as root in the host and in every worker's own namespace, in turn; each must exit with 0."""
        places = {tuple(argv): None, **{tuple(self.inside(one, argv)): None for one in self.fleet.members}}
        return [self.host(place, check=True, **settings) for place in places]

    def inside(self, worker: Worker, argv: Sequence[str]) -> list[str]:
        """ARGV where WORKER has its tunnel; in the host for a worker that is not in the fleet."""
        member = worker in self.fleet.members and self.fleet.walls.space(worker)
        return ["nsenter", f"--net={self.paths.space(worker)}", *argv] if member else [*argv]

    def as_worker(self, worker: Worker, *argv: str) -> list[str]:
        """ARGV under a worker's UID."""
        return ["setpriv", f"--reuid={worker.uid}", "--regid=fleet", "--clear-groups", *argv]

    def json(self, *argv: str) -> Any:
        """The JSON that a tool prints inside the host."""
        return json.loads(self.host(argv, check=True).stdout or "[]")

    def popen(self, argv: Sequence[str], **settings: Any) -> subprocess.Popen[str]:
        """Start a program as root inside the host; it ends with stop()."""
        self.processes.append(self.lab.popen("host", argv, **{"cwd": "/", **settings}))
        return self.processes[-1]

    def client(self, index: int = 0) -> Client:
        """A process of the worker at INDEX."""
        return self.client_of(self.worker(index))

    def client_of(self, worker: Worker, at: Worker | None = None) -> Client:
        """A process with WORKER's UID, in the namespace of AT (default: WORKER); it can ask netctl and the network."""
        argv = self.as_worker(worker, *program(self.lab, "client", str(self.paths.netctl_socket)))
        return Client(self.popen(self.inside(at or worker, argv), **PIPES))

    def command(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run netctl with ARGUMENTS as root inside the host."""
        return self.host(self.installation.module("netctl", *arguments), **settings)

    def operate(self, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """One of the operator's commands inside the host."""
        argv = self.installation.module("fleet", *words)
        return self.host(argv, **{"timeout": 300, "stdin": subprocess.DEVNULL, **settings})

    def import_keys(self, *patterns: str) -> None:
        """Import the lab's key files that match PATTERNS into netctl's pool."""
        self.command("keys", "import", *map(str, key_stores.files(self.lab, patterns)), check=True)

    # --- observing

    def status(self) -> dict[str, Any]:
        """The content of `netctl status --json`, asked over the socket: starting a program takes half a second."""
        return status.netctl_status(self.paths).model_dump(mode="json")

    def slot(self, index: int = 0) -> dict[str, Any]:
        """The status of the slot at INDEX."""
        return dict(self.status()["slots"][index])

    def server_pids(self, *hosts: str) -> list[int]:
        """The pids of wireguard-go of the lab's VPN servers, or of those on HOSTS."""
        names = {self.lab.topology.namespace(one) for one in hosts or (server.host for server in self.lab.topology.vpn)}
        found = self.lab.status().processes
        return [one.pid for one in found if one.namespace in names and "wireguard-go" in one.command]

    def wait_until_sealed(self, index: int = 0) -> None:
        """Wait until netctl reports that the slot is sealed."""
        until("sealed", lambda: self.slot(index)["state"] == "sealed", 20, lambda: self.slot(index))

    def wait_until_settled(self, seconds: float = 25) -> None:
        """Wait until `netctl plan` is empty. A plan takes up to a second, so wait for more specific things first."""
        plan = ("plan", "--json")
        until("all stands", lambda: self.command(*plan).stdout.strip() == "[]", seconds, lambda: self.command(*plan))


class Rig(Host):
    """A Host with KEYS in its pool, whose netctl and wireguard-go run as the supervisor would start them."""

    usual = QUICK

    def __init__(
        self, lab: Lab, count: int = 1, *, keys: Sequence[str] = ("*.conf",), debug: bool = True, **more: Any
    ) -> None:
        super().__init__(lab, count, **more)
        self.log, self._debug = self.paths.root / "netctl.log", ["--debug"] if debug else []
        self.netctl: subprocess.Popen[str] | None = None
        self.devices: dict[str, subprocess.Popen[str]] = {}
        """The last wireguard-go of each interface."""
        self.lay_out()
        folders.prepare_backend(replace(USERSPACE, sockets=None))
        prepare.namespaces(self.fleet, self.paths)
        # wireguard-go's folder is the lab's own, mounted over the machine's.
        os.chown(self.lab.places.at("host") / "wireguard", pwd.getpwnam("netctl").pw_uid, -1)
        key_stores.fill(self, keys)

    def start(self) -> Rig:
        """Start wireguard-go for every worker, then netctl."""
        for worker in self.fleet.members:
            self.start_wireguard(worker)
        self.start_netctl()
        return self

    def start_wireguard(self, worker: Worker) -> subprocess.Popen[str]:
        """Start a worker's wireguard-go."""
        self.devices[worker.interface] = self._start(self.installation.tunnel(worker, USERSPACE))
        return self.devices[worker.interface]

    def start_netctl(self, *, wait: bool = True) -> subprocess.Popen[str]:
        """Start `netctl serve` with the settings as they are now, and wait until it answers."""
        self.write_snapshot()
        started = self.netctl = self._start(self.serving(*self._debug))
        if wait:
            until("netctl serves", lambda: self._is_ready(started), 60)
        return started

    def serving(self, *words: str) -> list[str]:
        """The command line of `netctl serve`, under its own account."""
        return self.installation.netctl(*words, "serve", walls=self.fleet.walls)

    def kill_netctl(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal NUMBER to netctl and wait; returns its exit code."""
        assert self.netctl
        self.netctl.send_signal(number)
        return self.netctl.wait(60)

    def _is_ready(self, started: subprocess.Popen[str]) -> bool:
        assert started.poll() is None, self.log.read_text()[-3000:]
        return any(line["pid"] == started.pid for line in self.logged("netctl.ready"))

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            return self.popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End everything that was started here, clean up the kernel, and remove the key store."""
        super().stop()
        self.command("cleanup")
        for path in self.paths.key_store.parent.glob(f"{self.paths.key_store.name}*"):
            path.unlink()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of netctl's log with this EVENT, oldest first."""
        # Search for the name before parsing: a log has thousands of lines, and tests wait for one.
        texts = [text for text in self.log.read_text().splitlines() if f'"{event}"' in text]
        lines = [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def seal_after(self, moment: datetime) -> tuple[float, str]:
        """Wait for the first seal after MOMENT; returns the seconds between them, by netctl's log, and the reason."""

        def look() -> tuple[float, str] | None:
            sealed = [line for line in self.logged("slot.sealed") if at(line) > moment]
            return ((at(sealed[0]) - moment).total_seconds(), sealed[0]["reason"]) if sealed else None

        found = until("sealed", look, 10)
        assert found
        return found


def at(line: dict[str, Any]) -> datetime:
    """The time of a log line."""
    return datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))


@contextlib.contextmanager
def running(lab: Lab, count: int = 1, **settings: Any) -> Iterator[Rig]:
    """A started Rig, stopped at the end."""
    rig = Rig(lab, count, **settings)
    try:
        yield rig.start()
    finally:
        rig.stop()
