"""A caller that means harm: the server stands, and its neighbour hardly notices.

A real server in a process of its own, the attacker in another under another UID. The neighbour's time is compared
with its time in the same run while a process of the same appetite burns the processor instead.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import Unavailable
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import NetctlStatus, Status
from tests.fuzz.planted import WIDE
from tests.unit.hostile import KINDS
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ATTACKER = 4711
SAMPLES = 30
PACE_SECONDS = 0.03
"""An honest caller stays under its rate; an attacker's burst is over long before so many samples are."""
BOUND = 5.0
LIMITS: dict[str, float] = {"requests_per_second": 40, "frame_seconds": 1}
OFF: dict[str, float] = {**WIDE, "connections_per_uid": 1000}


@contextmanager
def started(*argv: str, output: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, killed at the end."""
    process = subprocess.Popen([sys.executable, *argv], cwd=ROOT, stdout=output, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def answers(path: Path) -> bool:
    """Whether somebody listens at PATH."""
    try:
        with Client(path, timeout_seconds=30):
            return True
    except Unavailable:
        return False


@contextmanager
def serving(folder: Path, limits: dict[str, float]) -> Iterator[tuple[Path, int]]:
    """A server with LIMITS that everybody can reach: its socket and its process."""
    path = folder / "s.sock"
    for place in path.parents:
        if place.stat().st_mode & 0o011 != 0o011:
            place.chmod(place.stat().st_mode | 0o011)
    with started("-m", "tests.fuzz.planted", str(path), "none", json.dumps(limits)) as server:
        until("it serves", lambda: answers(path), 20)  # the file is there a moment before anybody listens
        yield path, server.pid


@contextmanager
def attacked(path: Path, kind: str) -> Iterator[None]:
    """While another UID attacks."""
    with started("-m", "tests.unit.hostile", str(path), str(ATTACKER), kind, output=subprocess.PIPE) as attacker:
        assert attacker.stdout and attacker.stdout.readline() == "on\n"
        yield


@pytest.fixture(autouse=True)
def first_in_line(root: None) -> Iterator[None]:
    """All processes of these tests come before whatever else this machine does: it would blur what is compared."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -15)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, usual)


def typical(client: Client) -> float:
    """The lower quartile of the times of one request, in seconds: a queue is felt by every one."""
    times = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        client.ask(Status(), NetctlStatus)
        times.append(time.perf_counter() - begin)
        select.select([], [], [], PACE_SECONDS)
    return statistics.quantiles(times, n=4)[0]


def ratios(path: Path, kind: str) -> Iterator[float]:
    """How many times slower the neighbour's requests are under attack, up to three rounds."""
    with Client(path, timeout_seconds=30) as neighbour:
        for _ in range(3):
            with started("-c", "while True: pass"):
                quiet = typical(neighbour)
            with attacked(path, kind):
                yield typical(neighbour) / quiet


@pytest.mark.parametrize("kind", KINDS)
def test_a_neighbour_hardly_notices(kind: str, tmp_path: Path) -> None:
    """Whatever one caller does, another's requests take less than five times as long, in the best of three rounds."""
    with serving(tmp_path, LIMITS) as (path, _):
        seen = []
        for ratio in ratios(path, kind):
            seen.append(ratio)
            if ratio < BOUND:
                break
        print(f"{kind}: {seen[-1]:.2f} times")
        assert seen[-1] < BOUND, seen


@pytest.mark.parametrize("kind", ["asks", "garbage"])
def test_without_limits_it_would_suffer(kind: str, tmp_path: Path) -> None:
    """The control: with the rates off the same attacks are felt, by the same measure."""
    with serving(tmp_path, OFF) as (path, _):
        seen = next((ratio for ratio in ratios(path, kind) if ratio > BOUND), 0)
        print(f"{kind} without limits: {seen:.1f} times")
        assert seen > BOUND


def test_a_flood_of_connections_costs_a_part_of_a_processor(tmp_path: Path) -> None:
    """While one caller connects without end, the server uses less than two thirds of a processor."""
    with serving(tmp_path, LIMITS) as (path, pid), attacked(path, "connects"), attacked(path, "connects"):
        begin, before = time.monotonic(), _processor(pid)
        until("two seconds have passed", lambda: time.monotonic() - begin > 2, 5)
        share = (_processor(pid) - before) / (time.monotonic() - begin)
        print(f"{share:.2f} of a processor")
        assert share < 0.66


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
