"""One worker's slot with all judges around it: tcpdump outside of the host, listeners on the host itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fleet.isolation import HOST
from fleet.model import Worker
from lab.net import Lab
from lab.topology import WEB_ADDRESS, WEB_ADDRESS_V6
from tests.faults.capture import Capture
from tests.leak import probes
from tests.netns.ear import Ear, speaking
from tests.netns.netctl_rig import Client, Rig
from tests.netns.test_netctl_reach import LISTEN
from tests.waiting import until

HERE = Path(__file__).parent
LATE_COUNT = 4
"""Connections of each kind and of each IP version that end badly, in every state."""
Tick = Callable[[], object]


class Late:
    """A running late_client.py of WORKER's."""

    def __init__(self, scene: Scene, worker: Worker) -> None:
        self._scene = scene
        ports = map(str, (probes.BULK, probes.LINGER, probes.DELAYED, LATE_COUNT))
        self._process = scene.popen(worker, "late_client.py", f"{WEB_ADDRESS},{WEB_ADDRESS_V6}", *ports)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n", "nothing to end: no connection came about"

    def end(self) -> None:
        """Some connections are closed, some answers asked for, and all that is killed."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it ended with its sockets
            self._process.stdin.write("end\n")
            self._process.stdin.flush()
            self._process.stdout.readline()
        self._process.kill()
        self._process.wait(10)
        self._scene.ended += 3 * LATE_COUNT


class Scene:
    """A fleet on the lab's host, its first worker without a tunnel, and a neighbour; see started()."""

    def __init__(self, lab: Lab, rig: Rig, ear: Ear) -> None:
        self.lab, self.rig, self.worker, self.neighbour = lab, rig, rig.worker(), rig.worker(1)
        self.capture, self._ear = Capture(rig), ear
        self.clients: list[Client] = []
        self.ended = 0
        """How many connections and questions of each IP version have ended badly."""
        self.wireguard = next(one for one in rig.processes if "wireguard-go" in one.args)  # type: ignore[operator]
        for run in (rig.host, rig.there):
            run(["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"], check=True)

    @property
    def isolated(self) -> bool:
        """Whether the worker has a network namespace of its own."""
        return self.rig.fleet.walls.space(self.worker) != HOST

    # --- the worker

    def client(self) -> Client:
        """A process of the worker's that may ask for a tunnel."""
        self.clients.append(self.rig.client())
        return self.clients[-1]

    def connected(self) -> Client:
        """One that has it."""
        made = self.client()
        answer = made.ask(do="connect")
        assert "ok" in answer, answer
        return made

    def late(self, worker: Worker | None = None) -> Late:
        """Connections of the worker's, or of a free UID, that are about to end."""
        return Late(self, worker or self.worker)

    def popen(self, worker: Worker, program: str, *arguments: str, host: bool = False) -> subprocess.Popen[str]:
        """One of this folder's programs under that UID, where the worker is; with HOST in the host's namespace."""
        argv = ["/usr/bin/python3", "-I", "-c", (HERE / program).read_text(), *arguments]
        argv = self.rig.as_worker(worker, *argv)
        where = argv if host else self.rig.inside(worker, argv)
        made = self.lab.popen("host", where, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        self.rig.processes.append(made)
        return made

    def probe(self, worker: Worker, tick: Tick, *, seconds: float = 1.5, rounds: int = 1_000_000) -> Counter[str]:
        """Every probe under that UID, TICK being called all the time: how many tries of each row.

        A worker with a namespace of its own tries in that and, as if it had got out, in the host's. From its own
        the host's public address is an address of the world, to be reached through the tunnel by everybody.
        """
        wanted = {**probes.probes(), **probes.loopback_probes(public=not self.isolated)}
        plan = json.dumps({"probes": wanted, "seconds": seconds, "rounds": rounds})
        places = [True, False] if self.isolated and worker == self.worker else [True]
        running = [self.popen(worker, "prober.py", plan, host=place) for place in places]
        until("the probers end", lambda: (tick(), all(one.poll() is not None for one in running))[1], 30)
        tries: Counter[str] = Counter()
        for one in running:
            assert one.stdout
            tries.update(json.loads(one.stdout.read()))
        return tries

    # --- the judges

    def heard(self) -> list[str]:
        """Every time a listener on the host itself was reached since the last call: `tcp 127.0.0.1`."""
        return self._ear.rest()

    def heard_at_least(self, count: int) -> int:
        """Wait until they were reached COUNT times."""
        found: list[str] = []

        def enough() -> bool:
            found.extend(self.heard())
            return len(found) >= count

        until(f"listeners are reached {count} times", enough, 10, lambda: Counter(found))
        return len(found)

    def quiet(self) -> None:
        """Wait until nothing is under way any more."""
        until("nothing is seen", lambda: not self.capture.lines() and not self.capture.lines(), 20)
        self.heard()

    # --- the host

    def in_space(self, *argv: str, text: str | None = None) -> None:
        """Run a tool in the host's network and, if there is one, in the worker's own."""
        places = [f"/run/netns/{self.lab.name}-host"]
        places += [str(self.rig.paths.space(self.worker))] if self.isolated else []
        for place in places:
            subprocess.run(["nsenter", f"--net={place}", "--", *argv], input=text, text=True, check=True, timeout=30)

    def servers(self) -> list[int]:
        """The wireguard-go of every VPN server."""
        names = {self.lab.topology.namespace(server.host) for server in self.lab.topology.vpn}
        found = self.lab.status().processes
        return [one.pid for one in found if one.namespace in names and "wireguard-go" in one.command]

    @contextlib.contextmanager
    def frozen(self, pids: Sequence[int]) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def settle(self) -> None:
        """Everything stands, and the worker has no tunnel."""
        for client in self.clients:
            client.kill()
        self.clients.clear()
        if self.wireguard.poll() is not None:
            self.wireguard = self.rig.start_wireguard(self.worker)
        assert self.rig.netctl
        if self.rig.netctl.poll() is not None:
            self.rig.start_netctl()
        until("the slot is sealed", lambda: self.rig.slot()["state"] == "sealed", 20, self.rig.slot)
        plan = ["plan", "--json"]
        until("all stands", lambda: self.rig.command(*plan).stdout.strip() == "[]", 25, lambda: self.rig.command(*plan))
        self.quiet()


@contextlib.contextmanager
def started(lab: Lab, isolation: str) -> Iterator[Scene]:
    """A Scene, ended behind the block."""
    listening = ["/usr/bin/python3", "-I", "-c", LISTEN, json.dumps([(host, probes.NEAR) for host in probes.OF_HOST])]
    serving = ["/usr/bin/python3", "-I", "-c", (HERE / "late_server.py").read_text()]
    serving += map(str, (probes.BULK, probes.LINGER, probes.DELAYED))
    rig = Rig(lab, count=2, isolation=isolation)
    with speaking(lab, "web", serving, "ready"), speaking(lab, "host", listening, "listening") as ear:
        try:
            yield Scene(lab, rig.start(), ear)
        finally:
            rig.stop()
