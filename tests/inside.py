"""Processes inside a lab: the programs of tests/programs, some obey a test and others report what they see."""

from __future__ import annotations

import contextlib
import json
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lab import run
from lab.net import Lab
from lab.topology import WEB_ADDRESS, WIREGUARD_PORT
from tests.waiting import until

ROOM = ("--snapshot-length=256", "--buffer-size=16384")
"""In immediate mode each packet has a slot of the snapshot length, 256 KiB unless told: the usual buffer of 2 MiB holds
eight packets then (pcap-linux.c), and a burst of more is lost unseen. The buffer's size is in KiB."""
SERVERS, SERVERS_V6 = "203.0.113.0/27", "2001:db8:2::1000/123"
ORDINARY = (
    f"(udp dst port {WIREGUARD_PORT} and dst net {SERVERS})",
    # The kernel's answer to a VPN server whose packet met no wireguard-go: it quotes WireGuard, nothing else.
    f"(icmp[0] = 3 and dst net {SERVERS} and icmp[28:2] = {WIREGUARD_PORT})",
    f"(ip6[6] = 58 and ip6[40] = 1 and dst net {SERVERS_V6} and ip6[88:2] = {WIREGUARD_PORT})",
    "arp",
    # Neighbours, routers and multicast groups of the wire itself (RFC 4861, 3810).
    "(icmp6 and ip6[40] >= 130 and ip6[40] <= 137)",
    "(ip6[6] = 0 and ip6[40] = 58 and ip6[48] = 143)",
)
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
PAST_THE_TUNNELS = (f"not ({' or '.join(ORDINARY)})", "-tt", "-Q", "in")
"""Arguments of tcpdump() for packets from the host that are neither WireGuard nor neighbour traffic on the wire."""


def scripts(lab: Lab) -> Path:
    """The folder in LAB that holds tests/programs, where every UID can read them."""
    made = run.paths(lab).root / "scripts"
    if not (made / "tests").exists():
        shutil.copytree(Path(__file__).parent / "programs", made / "tests/programs")
    return made


def program(lab: Lab, name: str, *arguments: str) -> list[str]:
    """The command line of programs/NAME.py in LAB, which imports the release; every UID can run it."""
    python, _, launch, _ = run.program("")
    path = f"PYTHONPATH={scripts(lab)}:{Path(launch).parent}"
    return ["env", path, python, "-m", f"tests.programs.{name}", *arguments]


def server(lab: Lab, *services: tuple[str, str, int]) -> list[str]:
    """The command line of programs/server.py with SERVICES: role, address and port of each."""
    return program(lab, "server", json.dumps(services))


def forget(lab: Lab) -> None:
    """Remove the files of all fleets from LAB's host."""
    names = run.paths(lab).spaces
    # It is a mount through which all programs of the lab see the same namespace names, so it stays.
    assert not [*names.iterdir()]
    for path in (*lab.places.fleet_root.iterdir(), *names.parent.iterdir()):
        if path.is_dir() and path not in (names, names.parent):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


@dataclass
class Client:
    """A process with at most one connection to netctl; programs/client.py lists its orders."""

    process: subprocess.Popen[str]

    def ask(self, **order: Any) -> Any:
        """Send one order, wait for its answer."""
        self.send(**order)
        return self.answer()

    def timed(self, **order: Any) -> tuple[Any, float]:
        """Send one order; returns its answer and the milliseconds until it came."""
        started = time.perf_counter()
        answer = self.ask(**order)
        return answer, (time.perf_counter() - started) * 1000

    def send(self, **order: Any) -> None:
        """Send one order and do not wait."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def has_answered(self) -> bool:
        """Whether an answer can be read without waiting."""
        assert self.process.stdout
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def answer(self) -> Any:
        """The next answer."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the client's process ended"
        return json.loads(line)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(10)


class Ear:
    """Reads the output of a process line by line."""

    def __init__(self, said: IO[str]) -> None:
        self._said, self._lines, self._rest = said, list[str](), ""

    def lines(self, count: int) -> list[str]:
        """The next COUNT lines."""
        until(f"{count} more lines", lambda: len(self._unread()) >= count, 60, self._unread)
        found, self._lines = self._lines[:count], self._lines[count:]
        return found

    def before(self, mark: str) -> list[str]:
        """The lines before the next one that contains MARK; that line is dropped."""
        found: list[str] = []
        while mark not in (line := self.lines(1)[0]):
            found.append(line)
        return found

    def says_more(self) -> bool:
        """Whether there are unread lines."""
        return bool(self._unread())

    def rest(self) -> list[str]:
        """All unread lines."""
        return self.lines(len(self._unread()))

    def heard(self, count: int) -> Counter[str]:
        """The next COUNT lines of programs/server.py, counted without order and sender: `tcp 127.0.0.1:80`."""
        return Counter(line.rpartition(" ")[0] for line in self.lines(count))

    def _unread(self) -> list[str]:
        *whole, self._rest = (self._rest + self._said.read()).split("\n")
        self._lines += whole
        return self._lines


@contextlib.contextmanager
def speaking(lab: Lab, where: str, argv: Sequence[str], first: str) -> Iterator[Ear]:
    """Start a program in the namespace WHERE and wait until it prints FIRST; it is killed after the block."""
    with (
        tempfile.NamedTemporaryFile("r") as said,
        open(said.name, "a") as out,  # noqa: PTH123 - its own descriptor: reading does not move the writer's position
        lab.popen(where, argv, stdout=out, stderr=out, cwd="/") as made,
    ):
        try:
            ear = Ear(said)
            ear.before(first)
            yield ear
        finally:
            made.kill()


def tcpdump(expression: str, *further: str) -> list[str]:
    """The command line of tcpdump for EXPRESSION, with FURTHER options, at the ISP's end of the host's uplink.

    Every packet of the host passes there. Run it inside the ISP.
    """
    # -U and -l: no buffering of output.
    return ["tcpdump", "-n", "-l", "-U", "--immediate-mode", "-i", "access", *ROOM, *further, expression]


@contextlib.contextmanager
def capturing(lab: Lab, *words: str) -> Iterator[Ear]:
    """The output of a running tcpdump(*WORDS)."""
    with speaking(lab, "isp", tcpdump(*words), "listening on") as made:
        yield made


class Capture:
    """An Ear for PAST_THE_TUNNELS that proves at each read that the capture still works.

    MARKER, a client with a UID of no worker, sends a mark, and the read waits until it is captured.
    """

    def __init__(self, ear: Ear, marker: Client) -> None:
        self._ear, self._marker, self._mark, self._lines = ear, marker, 20_000, list[str]()

    def lines(self) -> list[str]:
        """Everything captured since the last call, up to a mark that is sent now, without the marks."""
        self._mark += 1
        mark = f"{WEB_ADDRESS}.{self._mark}: UDP"

        def marked() -> int | None:
            self._marker.ask(do="udp", host=str(WEB_ADDRESS), port=self._mark)
            self._lines += self._ear.rest()
            return next((number for number, line in enumerate(self._lines, 1) if mark in line), None)

        end = until("the capture sees the mark", marked, 10, lambda: self._lines[-5:])
        found, self._lines = self._lines[:end], self._lines[end:]
        return [line for line in found if line and not re.search(rf"{WEB_ADDRESS}\.2\d{{4}}: UDP", line)]
