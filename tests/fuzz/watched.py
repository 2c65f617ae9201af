"""A server under attack, seen from outside: what must not be in its log, its memory, whether it still answers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import FleetError
from fleet.machine import processes
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import NetctlStatus, Status

CRASHES = (
    *("request.crashed", "connection.crashed", "background.failed", "Traceback (most recent call last)"),
    *("never retrieved", "Exception in callback", "was never awaited", "Task was destroyed"),
)
"""What this program's own handlers and asyncio's last resort write."""
GROWTH = 1.05
"""Resident memory at the end, over that behind the first tenth: caches and pools are full by then."""


@dataclass
class Watched:
    """One server, while frames come."""

    process: subprocess.Popen[Any]
    log: Path
    socket: Path
    resident: list[int] = field(default_factory=list)
    """Bytes, behind each tenth of the frames."""
    answers: dict[str, int] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """Everything that is wrong with it; empty when it stands."""
        found = [f"the log has {line[:300]!r}" for line in self._crashes()]
        if self.process.poll() is not None:
            return [*found, f"it ended with code {self.process.returncode}"]
        if self.resident[-1] > GROWTH * self.resident[0]:
            found.append(f"resident memory grew from {self.resident[0]} to {self.resident[-1]} bytes")
        try:
            with Client(self.socket, timeout_seconds=20) as client:
                client.ask(Status(), NetctlStatus)
        except FleetError as error:
            found.append(f"a valid request is not answered: {error}")
        return found

    def _crashes(self) -> list[str]:
        with self.log.open(errors="replace") as lines:
            return [line for line in lines if any(mark in line for mark in CRASHES)][:5]

    def look(self) -> None:
        """Note its memory (proc(5), VmRSS)."""
        with contextlib.suppress(OSError, KeyError):  # it has ended
            self.resident.append(int(processes.status(self.process.pid)["VmRSS"].split()[0]) * 1024)

    def suffer(
        self, frames: int, *, uid: int, seed: int, start: Callable[[Sequence[str]], subprocess.Popen[str]]
    ) -> int:
        """Have so many FRAMES sent by a process of UID that START starts; the number it has sent."""
        argv = [sys.executable, "-m", "tests.fuzz.attack", str(self.socket), *map(str, (uid, frames, seed))]
        attacker, sent = start(argv), 0
        assert attacker.stdin and attacker.stdout
        with attacker:
            for line in attacker.stdout:
                told = json.loads(line)
                sent, self.answers = told["frames"], told["answers"]
                self.look()
                try:
                    attacker.stdin.write("on\n")
                    attacker.stdin.flush()
                except BrokenPipeError:
                    break
        return sent
