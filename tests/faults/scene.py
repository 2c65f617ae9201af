"""Two workers at work all the time, under the real supervisord, while something happens to one of them.

The lab's host runs netctl and a wireguard-go for each worker as `fleet up` would: the same supervisord.conf but for
the browsers. In their place stand streams (programs/stream.py) that never stop. Times are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.backends import USERSPACE
from fleet.errors import FleetError
from fleet.model import Worker
from fleet.operate import render
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import NetctlStatus, Status
from fleet.supervise import ProgramState, Supervisor
from lab.net import Lab
from lab.topology import HOST_ADDRESS, ISP_RESOLVER, WEB_ADDRESS, WEB_ADDRESS_V6
from tests.faults.record import Record
from tests.fleets import FREE, Rig
from tests.inside import PAST_THE_TUNNELS, PIPES, Capture, capturing, program, scripts, server, speaking
from tests.layers import layers
from tests.waiting import until

ECHO, BULK, TCP, SINK, UPLINK = 4480, 4481, 4443, 4444, "uplink"
STATE_MEBIBYTES = 8
"""netctl's state folder is a small tmpfs of its own, so that its disk can be full."""
_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
COOLDOWN_SECONDS = 1
MISHAPS = ("request.crashed", "background.failed", "Traceback", "never retrieved")


def ways() -> list[dict[str, Any]]:
    """Every way out that a program without privileges can try: plain, bound to the uplink, to the host's address."""
    web, web_v6, resolver = str(WEB_ADDRESS), str(WEB_ADDRESS_V6), str(ISP_RESOLVER)
    datagram = {"kind": "udp", "kept": True}
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"
    v4: list[dict[str, Any]] = [
        {**datagram, "host": web, "port": SINK, "data": b"free".hex()},
        {**datagram, "host": resolver, "port": 53, "data": query.hex()},
        {"kind": "icmp", "kept": True, "host": resolver, "port": 0},
        {"kind": "tcp", "host": web, "port": TCP},
    ]
    v6 = [{**v4[0], "host": web_v6}, {**v4[2], "host": web_v6}, {**v4[3], "host": web_v6}]
    bound: list[dict[str, Any]] = [{}, {"device": UPLINK}, {"source": str(HOST_ADDRESS)}]
    connected = {**datagram, "connected": True, "host": web, "port": SINK, "data": b"connected".hex()}
    return [
        connected,
        *({**way, **how} for how in bound for way in v4),
        *({**way, **how} for how in bound[:2] for way in v6),
    ]


@dataclass
class Stream(Record):
    """A running programs/stream.py and everything it said."""

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


class Scene(Rig):
    """The lab's host with everything running under supervisord; see started()."""

    capture: Capture
    daemon: subprocess.Popen[str]
    """supervisord, whose mounts all its programs share."""

    def __init__(self, lab: Lab, isolation: str = "uid") -> None:
        cooldown = {"netctl": {"key_cooldown_seconds": COOLDOWN_SECONDS}}
        super().__init__(lab, 2, changes=cooldown, keys=("vpn1-01.conf",), isolation=isolation)
        self.log = self.paths.log("netctl")
        self.supervisor = Supervisor(self.installation)
        self.clock = self.paths.root / "clock"
        self.clock.write_text("0")
        self._client: Client | None = None
        self.streams: list[Stream] = []
        self.normal = ""
        self._read_to = 0
        self._open = ExitStack()

    def start(self) -> Scene:
        """Everything, up to the calm."""
        self._start_supervisord()
        self.bring_keys()
        site = server(self.lab, ("echo", "::", ECHO), ("sink", "::", SINK), ("bulk", "::", BULK))
        self._open.enter_context(speaking(self.lab, "web", site, "ready"))
        seen = self._open.enter_context(capturing(self.lab, *PAST_THE_TUNNELS))
        self.capture = Capture(seen, self.client_of(FREE))
        self.streams = [self.stream(worker) for worker in self.fleet.members]
        self.calm()
        self.normal = layers(self)
        return self

    def _start_supervisord(self) -> None:
        text = render.supervisord_conf(self.fleet, self.installation, USERSPACE)
        # The workers' programs are the streams here.
        text, group, _ = text.partition("\n[group:worker]")
        assert group, "supervisord.conf has no group of workers"
        launch = f"{self.installation.release}/launch.py netctl serve"
        assert launch in text
        text = text.replace(launch, f"{scripts(self.lab)}/tests/programs/clock.py {self.clock} {launch}")
        self.paths.supervisor_config.write_text(text)
        owner = self.paths.key_store.parent.stat().st_uid
        options = f"size={STATE_MEBIBYTES}m,mode=0700,uid={owner}"
        daemon = self.installation.supervisord("--nodaemon", "-c", str(self.paths.supervisor_config))
        argv = ["sh", "-c", _MOUNT, "sh", options, str(self.paths.key_store.parent), *daemon]
        environment = {**os.environ, **self.installation.environment}
        self.daemon = self.popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until("netctl serves", lambda: self.asked() is not None, 30, self._last_words)

    def _last_words(self) -> str:
        paths = [self.paths.log(name) for name in ("supervisord", "netctl")]
        return "\n".join(path.read_text()[-1500:] for path in paths if path.exists())

    def stream(self, worker: Worker, *, tunnel: bool = True) -> Stream:
        """Start a stream under WORKER's UID."""
        argv = program(self.lab, "stream", str(self.paths.netctl_socket) if tunnel else "-", json.dumps(ways()))
        with self.paths.log(f"stream-{worker.name}").open("a") as log:
            return Stream(process=self.popen(self.inside(worker, self.as_worker(worker, *argv)), stderr=log, **PIPES))

    def stop(self) -> None:
        """End everything."""
        for stream in self.streams:
            stream.process.kill()
        with contextlib.suppress(FleetError):
            self.supervisor.shut_down(20)
        self._open.close()
        super().stop()

    # --- the host, as root

    def within(self, argv: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ARGV in the host where supervisord's programs see the same files."""
        done = self.host(["nsenter", f"--mount=/proc/{self.daemon.pid}/ns/mnt", "--", *argv])
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done

    def net(self, *argv: str, at: str = "host", text: str | None = None) -> str:
        """What a tool says in the network of the lab's host AT; TEXT is its input."""
        return self.host(argv, at=at, input=text, check=True).stdout

    def bring_keys(self) -> None:
        """Every key of the lab is in netctl's pool."""
        files = sorted(str(path) for path in self.lab.places.keys.glob("*.conf"))
        self.within(self.installation.module("netctl", "keys", "import", *files))

    @property
    def state(self) -> Path:
        """netctl's state folder, seen from outside."""
        return Path(f"/proc/{self.daemon.pid}/root{self.paths.key_store.parent}")

    def difference(self) -> str:
        """What of layers() is not as it was in the beginning."""
        return "\n".join(difflib.unified_diff(self.normal.splitlines(), layers(self).splitlines(), "was", "is", n=0))

    # --- programs

    def running(self, name: str) -> ProgramState:
        """A program as supervisord sees it: `netctl`, `wg:wg101`."""
        return next(one for one in self.supervisor.states() if one.name == name)

    def pid(self, name: str = "netctl") -> int:
        """The process of a program that runs."""
        return until(f"{name} runs", lambda: self.running(name).pid, 10)

    def supervisorctl(self, verb: str, name: str = "netctl") -> str:
        """What supervisorctl says."""
        return self.host(self.installation.module("fleet", "supervisorctl", verb, name)).stdout

    # --- what there is to see

    def asked(self) -> NetctlStatus | None:
        """netctl's own status; None while it does not answer."""
        try:
            if self._client is None:
                self._client = Client(self.paths.netctl_socket, timeout_seconds=2)
                self._client.open()
            return self._client.ask(Status(), NetctlStatus)
        except FleetError:
            if self._client is not None:
                self._client.close()
            self._client = None
            return None

    def works(self, index: int, since: float) -> float | None:
        """Since when the slot at INDEX carries its stream again, for netctl too; looked for after SINCE."""
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
        return next(one.host for one in self.lab.topology.vpn if one.address == address)

    def mishaps(self) -> list[str]:
        """What netctl's log, since the last call, tells of faults of its own: none is expected, whatever happens."""
        text = self.log.read_text()
        told, self._read_to = text[self._read_to :], len(text)
        return [line for line in told.splitlines() if any(mark in line for mark in MISHAPS)]

    def calm(self) -> None:
        """Both streams go, both slots are connected, every layer stands."""

        def look() -> bool:
            now = time.monotonic()
            goes = all(self.works(index, now - 1) for index in range(2))
            return goes and (not self.normal or not self.difference())

        until("both streams go and all layers stand", look, 40, self.picture)

    def picture(self) -> str:
        """Everything that tells what is wrong, for a test that fails."""
        lines = [str(self.asked())]
        for stream in self.streams:
            lines += [str(one) for one in stream.exchanges[-3:]] + [str(one) for one in stream.refusals[-3:]]
        return "\n".join([*lines, layers(self), self._last_words()])


@contextlib.contextmanager
def started(lab: Lab, isolation: str = "uid") -> Iterator[Scene]:
    """A Scene that is calm, stopped at the end."""
    made = Scene(lab, isolation)
    try:
        yield made.start()
    finally:
        made.stop()
