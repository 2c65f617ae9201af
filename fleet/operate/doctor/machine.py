"""The machine under examination: its files under a prefix, its processes, and a runner of commands.

The prefix is `/`; a test lays out another one. Nothing here changes the machine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError
from fleet.machine import processes, syscalls
from fleet.model import Fleet, Paths, Worker
from fleet.operate import ports
from fleet.programs import ERRORS_AS_DATA, PLAIN_ENVIRONMENT, SEARCH_PATH, Installation, told_error
from fleet.snapshot import Snapshot
from fleet.trial import TrialOrder

_COMMAND_SECONDS = 60.0
NOT_THERE = 127
"""The exit code of a shell for a program that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a command."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def error(self) -> FleetError:
        """Why it failed: the error that one of our programs reported, or the standard error of any other."""
        return told_error(self.err, f"code {self.code}")

    @property
    def words(self) -> str:
        """The error's message on one line."""
        return "; ".join(self.error.message.splitlines())


Runner = Callable[[Sequence[str], str], Answer]
"""Runs a command with a text as its standard input; the code is 127 when there is no such program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that matters to the fleet."""

    pid: int
    name: str
    """At most 15 characters, as the kernel keeps it."""
    uid: int
    started: float
    """Seconds since 1970."""
    fleet_root: str | None
    """Which fleet started it: FLEET_ROOT in the environment of the nearest ancestor, or itself, whose UIDs are all
    root's. The environment of a worker's own process is not trusted."""

    @property
    def words(self) -> str:
        """A message for an operator who needs its UID."""
        of = f" of the fleet in {self.fleet_root}" if self.fleet_root else ""
        return f"UID {self.uid} is at work: process {self.pid} ({self.name}){of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Reads files below ROOT, runs commands with RUN, asks SYNCHRONISED for the clock, reserves ports by KEEP_PORTS."""

    root: Path = Path("/")
    run: Runner = field(default_factory=lambda: _run)
    synchronised: Callable[[], bool] = syscalls.clock_is_synchronised
    keep_ports: Callable[[Sequence[Worker]], Sequence[int]] = ports.keep

    def at(self, path: str | Path) -> Path:
        """PATH (absolute) below the prefix."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str | Path) -> str:
        """The file's text, stripped; empty when it cannot be read."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def number(self, path: str | Path) -> int | None:
        """The whole number the file holds, None when it holds none."""
        text = self.text(path)
        return int(text) if text.lstrip("-").isdigit() else None

    def glob(self, pattern: str) -> list[Path]:
        """Paths below the prefix that match, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def program(self, pid: int) -> str:
        """The file that process PID runs; empty when it has ended, or is hidden."""
        return _link(self.at(f"/proc/{pid}/exe"))

    def has_program(self, name: str) -> bool:
        """Whether NAME is a program on the fleet's search path."""
        return any(os.access(self.at(folder) / name, os.X_OK) for folder in SEARCH_PATH.split(":"))

    def memory_mebibytes(self, name: str) -> int:
        """The field NAME of /proc/meminfo (MemTotal, MemAvailable, ...); 0 when it is missing."""
        for line in self.text("/proc/meminfo").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) // 1024
        return 0

    def processes(self) -> Iterator[Process]:
        """Every process in our network namespace, and in any other (a container's, for example) those of a fleet."""
        network = _link(self.at("/proc/self/ns/net"))
        boot = next((float(line[6:]) for line in self.text("/proc/stat").splitlines() if line[:6] == "btime "), 0.0)
        seen = {int(folder.name): one for folder in self.root.glob("proc/[0-9]*") if (one := _look(folder))}
        for pid, one in seen.items():
            fleet_root = _fleet_root(pid, seen)
            if fleet_root is not None or _link(one.folder / "ns/net") == network:
                started = boot + one.ticks / os.sysconf("SC_CLK_TCK")
                yield Process(pid=pid, name=one.name, uid=one.uids[0], started=started, fleet_root=fleet_root)


@dataclass(frozen=True, slots=True)
class _Look:
    """One process, as /proc shows it."""

    folder: Path
    name: str
    uids: tuple[int, ...]
    """Real, effective, saved and file system UID."""
    parent: int
    ticks: int


def _look(folder: Path) -> _Look | None:
    try:
        fields = processes.status(folder)
        uids = tuple(map(int, fields["Uid"].split()))
        return _Look(folder, fields["Name"], uids, int(fields["PPid"]), int(processes.stat(folder)[19]))
    except (OSError, LookupError, ValueError):
        return None  # it has just ended


def _fleet_root(pid: int, seen: Mapping[int, _Look]) -> str | None:
    # A set-UID program has its caller's environment, and its caller's real UID.
    passed = set()
    while (one := seen.get(pid)) is not None and any(one.uids) and pid not in passed:
        passed.add(pid)
        pid = one.parent
    if one is None or any(one.uids):
        return None
    try:
        environment = (one.folder / "environ").read_bytes().split(b"\0")
    except OSError:
        return None  # it has just ended, or is not readable for us
    return next((entry[11:].decode(errors="replace") for entry in environment if entry[:11] == b"FLEET_ROOT="), None)


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a magic link, not a path
    except OSError:
        return ""


def _run(command: Sequence[str], given: str) -> Answer:
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            errors="backslashreplace",  # a file's name may be no text
            timeout=_COMMAND_SECONDS,
            check=False,
            cwd="/",
            env={"FLEET_ROOT": os.environ.get("FLEET_ROOT", "/"), **PLAIN_ENVIRONMENT, **ERRORS_AS_DATA},
        )
    except FileNotFoundError as error:
        return Answer(code=NOT_THERE, err=f"{error.filename} is not there")
    except subprocess.TimeoutExpired:
        return Answer(code=124, err=f"{command[0]} did not end within {_COMMAND_SECONDS:g} s")
    return Answer(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The input of a check: the machine, the settings, the programs of this release."""

    machine: Machine
    fleet: Fleet
    installation: Installation
    processes: tuple[Process, ...]
    """The machine's processes, listed once: hundreds of browsers have thousands."""
    configuration: str = ""
    """What is wrong with fleet.toml; then FLEET holds the defaults. Empty: FLEET is what fleet.toml says."""
    running: bool = False
    """Whether the fleet's supervisord answers."""

    @property
    def paths(self) -> Paths:
        return self.installation.paths

    def ours(self, module: str, *arguments: str) -> Answer:
        """Run one of this release's programs."""
        return self.machine.run(self.installation.module(module, *arguments), "")

    def with_settings(self, module: str, *arguments: str) -> Answer:
        """Run one of this release's programs with the settings of this case, not those of the last start."""
        snapshot = Snapshot(release=self.installation.release, fleet=self.fleet)
        command = self.installation.module(module, *arguments, "--settings", "/dev/stdin")
        return self.machine.run(command, snapshot.model_dump_json())

    def task(self) -> Answer:
        """The verdict of the worker's own program on the task of these settings."""
        order = TrialOrder(task=self.fleet.task)
        return self.machine.run(self.installation.module("worker", "task"), order.model_dump_json())

    def ask(self, *command: str, given: str = "") -> Answer:
        """Run a command of the system."""
        return self.machine.run(command, given)
