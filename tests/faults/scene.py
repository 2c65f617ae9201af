"""Two workers at work all the time, under the real supervisord, while something happens to one of them.

The lab's host runs netctl and a wireguard-go for each worker as `fleet up` would: the same supervisord.conf but for
the browsers. In their place stand streams (stream.py) that never stop. Times are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.backends import USERSPACE
from fleet.client import Client
from fleet.errors import FleetError
from fleet.model import Worker
from fleet.netctl_api import NetctlStatus, Status
from fleet.operate import render
from fleet.programs import Installation
from fleet.supervise import ProgramState, Supervisor
from lab.net import Lab
from tests.faults.capture import FREE, Capture
from tests.faults.record import Record
from tests.netns.netctl_rig import Rig
from tests.waiting import until

HERE = Path(__file__).parent
ECHO, SINK, BULK, UPLINK = 4480, 4444, 4481, "uplink"
STATE_MEBIBYTES = 8
"""netctl's state folder is a small tmpfs of its own, so that its disk can be full."""
_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
COOLDOWN_SECONDS = 1


@dataclass
class Stream(Record):
    """A running stream.py and everything it said."""

    process: subprocess.Popen[str] = field(kw_only=True)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for text in self.process.stdout:
            self.add(json.loads(text))

    def rotate(self) -> None:
        """Ask for another exit."""
        assert self.process.stdin
        self.process.stdin.write("rotate\n")
        self.process.stdin.flush()


MISHAPS = ("request.crashed", "background.failed", "Traceback", "never retrieved")


class Scene:
    """The lab's host with everything running; see started()."""

    def __init__(self, lab: Lab, isolation: str = "uid") -> None:
        self.lab = lab
        extra = f"[netctl]\nkey_cooldown_seconds = {COOLDOWN_SECONDS}\n"
        self.rig = Rig(lab, count=2, extra=extra, keys=("vpn1-01.conf",), isolation=isolation)
        self.rig.log = self.rig.paths.log("netctl")
        self.installation = Installation(paths=self.rig.paths, python=Path(sys.executable), release=self.rig.release)
        self.supervisor = Supervisor(self.installation)
        self.clock = self.rig.paths.root / "clock"
        self.clock.write_text("0")
        self._client: Client | None = None
        self.daemon: subprocess.Popen[str] | None = None
        self.streams: list[Stream] = []
        self.normal = ""
        self._read_to = 0

    def start(self) -> None:
        """Everything, up to the calm."""
        self._start_supervisord()
        self.bring_keys()
        self._start_echo()
        self.capture = Capture(self.rig)
        self.streams = [self.stream(worker) for worker in self.rig.fleet.members]
        self.calm()
        self.normal = self.layers()

    # --- starting and ending

    def _start_supervisord(self) -> None:
        text = render.supervisord_conf(self.rig.fleet, self.installation, USERSPACE)
        # The workers' programs are the streams here.
        text, group, _ = text.partition("\n[group:worker]")
        assert group, "supervisord.conf has no group of workers"
        launch = f"{self.rig.release}/launch.py netctl serve"
        assert launch in text
        stepped = self.rig.paths.root / "stepped.py"
        stepped.write_text((HERE / "clock.py").read_text())
        text = text.replace(launch, f"{stepped} {self.clock} {launch}")
        self.rig.paths.supervisor_config.write_text(text)
        owner = self.rig.paths.key_store.parent.stat().st_uid
        options = f"size={STATE_MEBIBYTES}m,mode=0700,uid={owner}"
        daemon = self.installation.supervisord("--nodaemon", "-c", str(self.rig.paths.supervisor_config))
        argv = ["sh", "-c", _MOUNT, "sh", options, str(self.rig.paths.key_store.parent), *daemon]
        environment = {**os.environ, **self.installation.environment}
        self.daemon = self.lab.popen("host", argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until("netctl serves", lambda: self.asked() is not None, 30, self._last_words)

    def _last_words(self) -> str:
        paths = [self.rig.paths.log(name) for name in ("supervisord", "netctl")]
        return "\n".join(path.read_text()[-1500:] for path in paths if path.exists())

    def _start_echo(self) -> None:
        argv = [sys.executable, "-I", "-c", (HERE / "echo.py").read_text(), str(ECHO), str(SINK), str(BULK)]
        echo = self.lab.popen("web", argv, stdout=subprocess.PIPE)
        self.rig.processes.append(echo)
        assert echo.stdout and echo.stdout.readline().strip() == "ready"

    def stream(self, worker: Worker, *, tunnel: bool = True) -> Stream:
        """Start a stream under WORKER's UID."""
        where = str(self.rig.paths.netctl_socket) if tunnel else "-"
        argv = [sys.executable, "-I", "-c", (HERE / "stream.py").read_text(), str(self.rig.release), where, UPLINK]
        with self.rig.paths.log(f"stream-{worker.name}").open("a") as log:
            process = self.lab.popen(
                "host",
                self.rig.inside(worker, self.rig.as_worker(worker, *argv)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
            )
        self.rig.processes.append(process)
        return Stream(process=process)

    def free_stream(self) -> Stream:
        """The same tries under a UID that is no worker's."""
        return self.stream(FREE, tunnel=False)

    def stop(self) -> None:
        """End everything."""
        for stream in self.streams:
            stream.process.kill()
        with contextlib.suppress(FleetError):
            self.supervisor.shut_down(20)
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait(10)
        self.rig.stop()

    # --- the host, as root

    def host(self, argv: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ARGV in the host, where supervisord's programs see the same files."""
        inside = ["nsenter", f"--mount=/proc/{self.root_pid}/ns/mnt", "--", *argv]
        done = self.rig.host(inside)
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done

    def net(self, *argv: str, host: str = "host", check: bool = True, text: str | None = None) -> str:
        """Run a tool in the network of HOST alone, with TEXT as its input: 5 ms instead of 200."""
        inside = ["nsenter", f"--net=/run/netns/{self.lab.name}-{host}", "--", *argv]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, check=False, timeout=30)
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def there(self, *argv: str, index: int = 0, check: bool = True, text: str | None = None) -> str:
        """As net(), where the worker at INDEX has its tunnel: in the host, or in its own namespace."""
        return self.net(*self.rig.inside(self.rig.worker(index), argv), check=check, text=text)

    def everywhere(self, *argv: str, text: str | None = None) -> None:
        """The same in the host and in every worker's own namespace, one after the other."""
        for place in {tuple(argv), *(tuple(self.rig.inside(one, argv)) for one in self.rig.fleet.members)}:
            self.net(*place, text=text)

    def batch(self, *lines: str, family: str = "-4") -> None:
        """Several changes in one `ip`, wherever there are tunnels."""
        self.everywhere("ip", family, "-batch", "-", text="\n".join(lines) + "\n")

    def keys(self) -> list[dict[str, Any]]:
        """`netctl keys list --json`."""
        found: list[dict[str, Any]] = json.loads(self.host(self.rig.argv("keys", "list", "--json")).stdout)
        return found

    def bring_keys(self) -> None:
        """Every key of the lab is in netctl's pool."""
        files = sorted(str(path) for path in self.lab.places.keys.glob("*.conf"))
        self.host(self.rig.argv("keys", "import", *files))

    @property
    def root_pid(self) -> int:
        """supervisord, whose mounts all its programs share."""
        assert self.daemon is not None
        return self.daemon.pid

    @property
    def state(self) -> Path:
        """netctl's state folder, seen from outside."""
        return Path(f"/proc/{self.root_pid}/root{self.rig.paths.key_store.parent}")

    def layers(self) -> str:
        """Rules, tables and chains that hold the workers, whatever their leases: as `ip` and `nft` show them."""
        # Rules of one priority may stand in any order.
        seen = []
        tables = [self.net("nft", "-s", "list", "table", "inet", name, check=False) for name in ("fleet", "fleet_hold")]
        for index, worker in enumerate(self.rig.fleet.members):
            for family in ("-4", "-6"):
                seen.append("\n".join(sorted(self.there("ip", family, "rule", index=index).splitlines())))
                route = ("ip", family, "route", "show", "table", str(worker.table))
                seen.append(self.there(*route, index=index, check=False))
            link = self.there("ip", "-oneline", "link", "show", worker.interface, index=index, check=False)
            seen.append(str(re.findall(r"<([\w,-]+)>.* mtu (\d+).* alias (\S+)", link)))
            tables.append(self.there("nft", "-s", "list", "table", "inet", "fleet", index=index, check=False))
        for table in tables:
            text = re.sub(
                r"((?:set|map) (?:open|open_source6?|leased6?|translation6?) \{).*?\n\t\}",
                r"\1",
                table,
                flags=re.DOTALL,
            )
            seen.append(re.sub(r"# progname .*", "", text))
        return "\n".join(seen)

    def difference(self) -> str:
        """What of layers() is not as it was in the beginning."""
        return "\n".join(
            line
            for line in difflib.unified_diff(self.normal.splitlines(), self.layers().splitlines(), "was", "is", n=0)
        )

    # --- programs

    def program(self, name: str) -> ProgramState:
        """A program as supervisord sees it: `netctl`, `wg:wg101`."""
        return next(one for one in self.supervisor.states() if one.name == name)

    def pid(self, name: str) -> int:
        """The process of a program that runs."""
        return until(f"{name} runs", lambda: self.program(name).pid, 10)

    def netctl_pid(self) -> int:
        return self.pid("netctl")

    def wireguard_pid(self, index: int = 0) -> int:
        return self.pid(f"wg:{self.rig.worker(index).interface}")

    def supervisorctl(self, verb: str, name: str = "netctl") -> str:
        """What supervisorctl says."""
        return self.rig.host(self.installation.supervisorctl(verb, name)).stdout

    @contextlib.contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end if it still is there."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- what there is to see

    def asked(self) -> NetctlStatus | None:
        """netctl's own status; None while it does not answer."""
        try:
            if self._client is None:
                self._client = Client(self.rig.paths.netctl_socket, timeout_seconds=2)
                self._client.open()
            return self._client.ask(Status(), NetctlStatus)
        except FleetError:
            if self._client is not None:
                self._client.close()
            self._client = None
            return None

    def works(self, index: int, since: float) -> float | None:
        """Since when the slot at INDEX carries its stream again, for netctl too; looked for behind SINCE."""
        began = self.streams[index].flows_since(since)
        if began is None:
            return None
        status = self.asked()
        return began if status is not None and status.slots[index].state == "connected" else None

    def server_of(self, index: int = 0) -> str:
        """The lab's host that the slot's tunnel leads to."""
        status = self.asked()
        assert status and status.slots[index].exit_address
        address = status.slots[index].exit_address
        return next(server.host for server in self.lab.topology.vpn if server.address == address)

    def server_pid(self, host: str) -> int:
        """The wireguard-go of a VPN server."""
        namespace = self.lab.topology.namespace(host)
        found = self.lab.status().processes
        return next(one.pid for one in found if one.namespace == namespace and "wireguard-go" in one.command)

    def mishaps(self) -> list[str]:
        """What netctl's log, since the last call, tells of faults of its own: none is expected, whatever happens."""
        text = self.rig.log.read_text()
        told, self._read_to = text[self._read_to :], len(text)
        return [line for line in told.splitlines() if any(mark in line for mark in MISHAPS)]

    def calm(self) -> None:
        """Both streams go, both slots are connected, every layer stands."""

        def look() -> bool:
            now = time.monotonic()
            if not all(self.works(index, now - 1) for index in range(2)):
                return False
            return not self.normal or self.layers() == self.normal

        until("both streams go and all layers stand", look, 40, self.picture)

    def picture(self) -> str:
        """Everything that tells what is wrong, for a test that fails."""
        lines = [str(self.asked())]
        for stream in self.streams:
            lines += [str(one) for one in stream.exchanges[-3:]] + [str(one) for one in stream.refusals[-3:]]
        return "\n".join([*lines, self.layers(), self._last_words()])


@contextlib.contextmanager
def started(lab: Lab, isolation: str = "uid") -> Iterator[Scene]:
    """A Scene that is calm, stopped at the end."""
    made = Scene(lab, isolation)
    try:
        made.start()
        yield made
    finally:
        made.stop()
