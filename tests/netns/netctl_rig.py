"""netctl inside the lab's host, as the supervisor would start it, and workers that are real processes.

Everything a test judges by (`ip`, `nft`, `wg`, tcpdump) runs inside the lab's host too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet import model
from fleet.backends import USERSPACE
from fleet.isolation import UID, Isolation
from fleet.model import Fleet, Paths, Worker
from fleet.operate import accounts, folders, prepare
from lab.net import Lab
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CLIENT = Path(__file__).with_name("netctl_worker.py")
NETWORK_TOOLS = {"ip", "nft", "ss", "conntrack", "sysctl", "sh"}
"""All that these see of the host is its network: into it alone takes 5 ms, into the whole host 200."""


@dataclass
class Client:
    """One worker process with one connection to netctl; see netctl_worker.py for its words."""

    process: subprocess.Popen[str]

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send one order, wait for its answer."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def timed(self, **order: Any) -> tuple[dict[str, Any], float]:
        """The answer, and the milliseconds from the order to it."""
        started = time.perf_counter()
        answer = self.ask(**order)
        return answer, (time.perf_counter() - started) * 1000

    def send(self, **order: Any) -> None:
        """Send one order and do not wait."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the worker process ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(10)


@dataclass
class Rig:
    """A fleet of COUNT workers on a lab's host, without workers' programs."""

    lab: Lab
    count: int = 1
    extra: str = ""
    keys: Sequence[str] = ("*.conf",)
    isolation: str = "uid"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    netctl: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.paths = Paths(root=self.lab.places.fleet_root)
        self.python, self.release = Path(sys.executable), self._release()
        self.log = self.paths.root / "netctl.log"
        self.fleet = self._configure()
        accounts.ensure(self.fleet)
        for folder in folders.wanted(self.fleet, self.paths):
            folders.make(folder)
        folders.prepare_backend(replace(USERSPACE, sockets=None))
        prepare.namespaces(self.fleet, self.paths)
        # wireguard-go's folder is the lab's own, mounted over the machine's.
        os.chown(self.lab.places.at("host") / "wireguard", pwd.getpwnam("netctl").pw_uid, -1)
        paths = sorted(str(path) for pattern in self.keys for path in self.lab.places.keys.glob(pattern))
        self.command("keys", "import", *paths, check=True)

    def _release(self) -> Path:
        made = subprocess.run(
            [ROOT / "bin/release", os.environ.get("FLEET_HOME", "/opt/fleet")],
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(made.stdout.strip())

    def _configure(self) -> Fleet:
        text = f"""isolation = "{self.isolation}"
[workers]
count = {self.count}
[dns]
resolvers = ["198.18.0.53"]
[egress]
urls = ["https://shop.example/ip"]
[wireguard]
backend = "userspace"
{_netctl(self.extra)}
"""
        self.paths.config.parent.mkdir(parents=True, exist_ok=True)
        self.paths.config.write_text(text)
        return model.load(self.paths.config)

    # --- programs

    def argv(self, *arguments: str) -> list[str]:
        """The command line of netctl with ARGUMENTS."""
        return [str(self.python), "-I", str(self.release / "launch.py"), "netctl", *arguments]

    def command(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run netctl with ARGUMENTS as root inside the host."""
        return self.host(self.argv(*arguments), **settings)

    def host(self, argv: Sequence[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run any program as root inside the host, or deeper (see inside())."""
        deeper = argv[0] == "nsenter" and argv[2] in NETWORK_TOOLS
        if deeper or argv[0] in NETWORK_TOOLS:
            into = [] if deeper else ["nsenter", f"--net=/run/netns/{self.lab.topology.namespace('host')}", "--"]
            inside = [*into, *argv]
            usual = {"capture_output": True, "text": True, "timeout": 60}
            return subprocess.run(inside, check=settings.pop("check", False), **{**usual, **settings})
        return self.lab.run("host", argv, **{"timeout": 60, **settings})

    def json(self, *argv: str) -> Any:
        """The JSON that a tool prints inside the host."""
        done = self.host(argv, check=True)
        return json.loads(done.stdout or "[]")

    def there(self, argv: Sequence[str], index: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run any program as root where the worker at INDEX has its tunnel: in the host, or in its own namespace."""
        return self.host(self.inside(self.worker(index), argv), **settings)

    def inside(self, worker: Worker, argv: Sequence[str]) -> list[str]:
        """ARGV where WORKER has its tunnel; in the host for whom the fleet does not know."""
        member = worker in self.fleet.members and self.fleet.walls.space(worker)
        return ["nsenter", f"--net={self.paths.space(worker)}", *argv] if member else [*argv]

    def as_netctl(self, *argv: str) -> list[str]:
        """ARGV the way the supervisor starts netctl."""
        return self._as_netctl(self.fleet.walls, *argv)

    def _as_netctl(self, walls: Isolation, *argv: str) -> list[str]:
        held = ",".join(["-all", *(f"+{name}" for name in walls.capabilities)])
        capabilities = (f"--inh-caps={held}", f"--ambient-caps={held}", f"--bounding-set={held}")
        return ["setpriv", "--reuid=netctl", "--regid=fleet", "--clear-groups", *capabilities, "--no-new-privs", *argv]

    def as_worker(self, worker: Worker, *argv: str) -> list[str]:
        """ARGV under a worker's UID."""
        return ["setpriv", f"--reuid={worker.uid}", "--regid=fleet", "--clear-groups", *argv]

    def start_wireguard(self, worker: Worker) -> subprocess.Popen[str]:
        """Start a worker's wireguard-go."""
        return self._start(self._as_netctl(UID, "wireguard-go", "-f", worker.interface))

    def start_netctl(self, *, wait: bool = True) -> subprocess.Popen[str]:
        """Start `netctl serve` and wait until it answers."""
        self.netctl = self._start(self.as_netctl(*self.argv("--debug", "serve")))
        if wait:
            started = self.netctl
            until("netctl serves", lambda: self._ready(started), 15)
        return self.netctl

    def _ready(self, started: subprocess.Popen[str]) -> bool:
        assert started.poll() is None, self.log.read_text()[-3000:]
        return any(line["pid"] == started.pid for line in self.logged("netctl.ready"))

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of netctl's log that tell of EVENT, oldest first."""
        # Its name is looked for first: a log has thousands of lines, and tests wait for one.
        texts = [text for text in self.log.read_text().splitlines() if f'"{event}"' in text]
        lines = [json.loads(text) for text in texts if text.startswith("{") and text.endswith("}")]
        return [line for line in lines if line["event"] == event]

    def seal_after(self, moment: datetime) -> tuple[float, str]:
        """Wait for the seal that comes behind MOMENT: how many seconds behind, by netctl's log, and why."""

        def look() -> tuple[float, str] | None:
            sealed = [line for line in self.logged("slot.sealed") if at(line) > moment]
            return ((at(sealed[0]) - moment).total_seconds(), sealed[0]["reason"]) if sealed else None

        found = until("sealed", look, 10)
        assert found
        return found

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        with self.log.open("a") as log:
            process = self.lab.popen("host", argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start(self) -> Rig:
        """wireguard-go for every worker, and netctl."""
        for worker in self.fleet.members:
            self.start_wireguard(worker)
        self.start_netctl()
        return self

    def stop(self) -> None:
        """End everything this rig started, and take ours out of the kernel."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait(10)
        self.command("cleanup")
        self.paths.key_store.unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            self.paths.key_store.with_name(self.paths.key_store.name + suffix).unlink(missing_ok=True)

    # --- workers

    def worker(self, index: int = 0) -> Worker:
        """The worker at INDEX."""
        return self.fleet.members[index]

    def client(self, index: int = 0) -> Client:
        """A process of the worker at INDEX."""
        return self.client_of(self.worker(index))

    def client_of(self, worker: Worker, at: Worker | None = None) -> Client:
        """A process of that UID where that worker, or the one given by AT, is; it can ask netctl and the network."""
        argv = [str(self.python), "-I", "-c", CLIENT.read_text(), str(self.release), str(self.paths.netctl_socket)]
        process = self.lab.popen(
            "host",
            self.inside(at or worker, self.as_worker(worker, *argv)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self.processes.append(process)
        return Client(process)

    def status(self) -> dict[str, Any]:
        """`netctl status --json`."""
        done = self.command("status", "--json", check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def slot(self, index: int = 0) -> dict[str, Any]:
        """One slot of the status."""
        found: dict[str, Any] = self.status()["slots"][index]
        return found


def _netctl(extra: str) -> str:
    """EXTRA, in which a worker may take keys as fast as these tests do: no real one is that quick."""
    wide = "[netctl]\nkey_requests_per_second = 1000\nkey_requests_burst = 1000\n"
    if "key_requests" in extra:
        return extra
    return extra.replace("[netctl]\n", wide) if "[netctl]\n" in extra else f"{extra}\n{wide}"


def at(line: dict[str, Any]) -> datetime:
    """When a line was logged."""
    return datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00"))


@contextlib.contextmanager
def running(lab: Lab, **settings: Any) -> Iterator[Rig]:
    """A started Rig, stopped at the end."""
    rig = Rig(lab, **settings)
    try:
        yield rig.start()
    finally:
        rig.stop()
