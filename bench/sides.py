"""The same tunnel four times, each in a lab of its own: bare, bare again, in `uid` isolation, in `netns` isolation.

Every lab has one VPN server and one client device, so the sides differ only in what surrounds the device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import stream
from bench.slots import processor
from bench.starts import MOMENTS, PROCESSOR
from fleet.errors import FleetError
from fleet.machine.interrupts import Interrupts
from fleet.supervise import wait_until
from lab import processes, run
from lab.net import Lab
from lab.topology import SITE_NAME, WEB_ADDRESS
from tests.fleets import CHECKOUT, Rig
from tests.system.launching import Stage

PORT = 5201
FIRST_UID = 1295
DEVICE = "bare0"
FREE_UID = 4321
"""A UID outside the fleet."""
WAIT_SECONDS = 30.0
CHANGES: run.Changes = {
    "netctl": {"key_cooldown_seconds": 0},
    "task": {"run": "visit"},
    "task.options": {"urls": [f"https://{SITE_NAME}/"]},
}
TEXT = Path(stream.__file__).read_text(encoding="utf-8")


class Side:
    """One lab with a device in it, and the shop's host that the stream goes to or comes from."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab = lab
        self.processes: list[subprocess.Popen[str]] = []
        stack.callback(self.end)

    def serve(self) -> None:
        """Start the other end of the stream."""
        server = self.lab.popen("web", self._stream("serve", str(PORT)), stdout=subprocess.PIPE)
        self.processes.append(server)
        assert server.stdout and server.stdout.readline() == "ready\n"

    def stream(self, direction: str, seconds: float) -> tuple[float, float]:
        """Through the tunnel, `down` or `up`: megabits a second, processor seconds a gigabyte. Raises FleetError.

        The processor time is of all that carries the stream, at both ends.
        """
        before = self._processor()
        words = self._stream(direction, str(WEB_ADDRESS), str(PORT), str(seconds))
        done = self.lab.run("host", self.who(words), timeout=seconds + WAIT_SECONDS, cwd="/")
        if done.returncode != 0:
            raise FleetError(f"no stream in the lab {self.lab.name}: {done.stderr.strip()}")
        rate, count, own = map(float, done.stdout.split())
        return rate * 8 / 1e6, (self._processor() - before + own) / (count / 1e9)

    def _processor(self) -> float:
        places = self.lab.places
        return sum(processor(one.pid) for one in processes.members(places.recorded().namespaces, places.at("")))

    def who(self, argv: list[str]) -> list[str]:
        """ARGV under the UID that uses the device."""
        return ["setpriv", f"--reuid={FREE_UID}", f"--regid={FREE_UID}", "--clear-groups", *argv]

    def end(self) -> None:
        """End what was started."""
        for process in self.processes:
            process.kill()
            process.wait(WAIT_SECONDS)

    def _stream(self, *words: str) -> list[str]:
        return [sys.executable, "-I", "-c", TEXT, *words]


class Bare(Side):
    """The device alone: an address, a route, no rule, no table, no netctl."""

    def __init__(self, lab: Lab, mtu: int, stack: ExitStack) -> None:
        super().__init__(lab, stack)
        with lab.places.log("bare").open("w") as log:
            command = ["wireguard-go", "-f", DEVICE]
            self.processes.append(lab.popen("host", command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        socket = lab.places.wireguard_socket("host", DEVICE)
        wait_until(socket.exists, WAIT_SECONDS, lambda: f"{socket} is not there")
        client = next(iter(sorted(lab.places.keys.glob("*.conf"))))
        lines = client.read_text(encoding="utf-8").splitlines()
        address = next(line.partition(" = ")[2] for line in lines if line.startswith("Address"))
        known = "\n".join(line for line in lines if not line.startswith(("Address", "DNS", "#")))
        self._do("wg", "setconf", DEVICE, "/dev/stdin", stdin=known)
        self._do("ip", "address", "add", address, "dev", DEVICE)
        self._do("ip", "link", "set", DEVICE, "mtu", str(mtu), "up")
        self._do("ip", "route", "add", str(WEB_ADDRESS), "dev", DEVICE)
        self.serve()

    def _do(self, *argv: str, stdin: str = "") -> None:
        self.lab.run("host", argv, input=stdin, check=True)


class Walled(Side):
    """A worker behind its tunnel in ISOLATION."""

    def __init__(self, lab: Lab, isolation: str, stack: ExitStack) -> None:
        super().__init__(lab, stack)
        # No other lab has this UID, because a launcher ends what its UID runs.
        uid = FIRST_UID + (isolation == "netns")
        self.rig = Rig(lab, first_uid=uid, isolation=isolation, changes=CHANGES, debug=False)
        stack.callback(self.rig.stop)
        self.starter = self._starter()
        self.processes.append(self.starter)
        self.rig.start()
        self.serve()

    def _starter(self) -> subprocess.Popen[str]:
        stage = Stage(self.lab, self.rig)
        worker = stage.worker
        spec = stage.spec(run.program("worker", "run", "--worker", worker.name))
        words = [sys.executable, "-m", "bench.starts", str(spec), str(worker.uid), *stage.launcher]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return self.lab.popen("host", words, cwd=CHECKOUT, env=environment, **pipes)

    def start(self) -> dict[str, float]:
        """Milliseconds from the launcher's exec to each of the worker's MOMENTS; raises FleetError."""
        assert self.starter.stdin and self.starter.stdout
        self.starter.stdin.write("go\n")
        self.starter.stdin.flush()
        line = self.starter.stdout.readline()
        if not line:
            raise FleetError(f"the worker of {self.lab.name} does not start; what it said is above")
        found: dict[str, float] = json.loads(line)
        assert set(found) == {*MOMENTS, PROCESSOR}
        return found

    def connect(self) -> None:
        """Hold the tunnel, without a worker's program. No start may follow: it would end the holder."""
        answer = self.rig.client().ask(do="connect")
        if "ok" not in answer:
            raise FleetError(f"no tunnel in the lab {self.lab.name}: {answer}")

    def who(self, argv: list[str]) -> list[str]:
        """As the worker, where its tunnel is."""
        return self.rig.inside(self.rig.worker(), self.rig.as_worker(self.rig.worker(), *argv))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What differs between the two bare ones is the machine's noise."""

    bare: Bare
    again: Bare
    uid: Walled
    netns: Walled

    def named(self) -> dict[str, Side]:
        """By name, the one that the others are compared with first."""
        return {"bare": self.bare, "again": self.again, "uid": self.uid, "netns": self.netns}


@contextmanager
def sides(name: str, interrupts: Interrupts) -> Iterator[Sides]:
    """All four, in labs whose names begin with NAME; nothing is left of them."""
    with _shielded(interrupts) as stack:
        labs = [Lab(f"{name}{letter}", servers=1, keys=8) for letter in "baun"]
        for lab in labs:
            stack.callback(lab.down)
            lab.up()
        uid, netns = Walled(labs[2], "uid", stack), Walled(labs[3], "netns", stack)
        bare, again = (Bare(lab, uid.rig.fleet.wireguard.mtu, stack) for lab in labs[:2])
        yield Sides(bare=bare, again=again, uid=uid, netns=netns)


@contextmanager
def _shielded(interrupts: Interrupts) -> Iterator[ExitStack]:
    """What is put into the stack is ended, however often somebody presses Ctrl-C."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        with interrupts.shield():
            stack.close()
