"""Real control groups of the kernel: only in the virtual machine, where no other program divides them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LIFE = """
import json, os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fleet.machine import cgroups
(Path(sys.argv[2]) / "cgroup.procs").write_text("0")
divided = cgroups.divide(cgroups.own())
own = cgroups.own()
group = cgroups.of_worker("w1101", own)
def worker(code):
    child = os.fork()
    if child == 0:
        cgroups.join(group, memory_mebibytes=64, processes=20, cpu_weight=70, io_weight=80)
        os.execv(sys.executable, [sys.executable, "-Ic", code])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
THREADS = "import threading; gate = threading.Event(); made = [threading.Thread(target=gate.wait) for _ in range(%d)]"
START = THREADS + "\\ntry: [one.start() for one in made]\\nfinally: gate.set()"
def busy(name, weight, ready, begin):
    cgroups.join(group.parent / name, memory_mebibytes=0, processes=20, cpu_weight=weight, io_weight=100)
    os.write(ready, b"1")
    end, before = float(os.read(begin, 100)), time.process_time()
    while time.monotonic() < end:
        pass
    return time.process_time() - before
def share(seconds):
    # On one processor: how much more a worker of weight 1000 gets than its neighbour of 100.
    os.sched_setaffinity(0, {0})
    (read, write), (ready, is_ready) = os.pipe(), os.pipe()
    gates = []
    for name, weight in (("w1102", 1000), ("w1103", 100)):
        gates.append(os.pipe())
        if os.fork() == 0:
            os.write(write, f"{weight} {busy(name, weight, is_ready, gates[-1][0])}\\n".encode())
            os._exit(0)
    # Both begin and end together: one that has the processor to itself for a while has more than its share.
    for _ in gates:
        os.read(ready, 1)
    end = str(time.monotonic() + seconds).encode()
    for _, gate in gates:
        os.write(gate, end)
    for _ in range(2):
        os.wait()
    said = dict(map(str.split, os.read(read, 100).decode().splitlines()))
    return float(said["1000"]) / float(said["100"])
def seen():
    # In a virtual machine whose host is busy a processor stands still for a second, and whoever had it is charged.
    for seconds in (2, 8, 32):
        if (found := share(seconds)) > 3:
            break
    return found
print(json.dumps({
    "divided": divided, "own": str(own), "again": cgroups.divide(own),
    "small": worker("bytearray(8 << 20)"), "large": worker("bytearray(200 << 20)"),
    "few": worker(START % 10), "many": worker(START % 40),
    "weights": [(one / "cpu.weight").read_text().strip() for one in (own, group)], "share": seen(),
}))
"""


@pytest.fixture
def group(root: None, tmp_path: Path) -> Iterator[Path]:
    """A group that has been delegated, as systemd does it."""
    top = tmp_path / "cgroup"
    top.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(top)], check=True)
    (top / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    made = top / "fleet.service"
    made.mkdir()
    os.setxattr(made, "trusted.delegate", b"1")
    yield made
    subprocess.run(["umount", "--lazy", str(top)], check=True)


def test_limits_of_a_worker_hold(group: Path) -> None:
    """A worker over its memory limit is killed, one over its process limit refused; below both, neither happens.

    Processor time is divided by weight; without weights two busy workers would get equal shares.
    """
    argv = [sys.executable, "-Ic", LIFE, str(CHECKOUT), str(group)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = {"divided": True, "own": str(group / "supervisor"), "again": True}
    found = json.loads(done.stdout)
    assert found.pop("share") > 3
    wanted |= {"weights": ["10000", "70"]}
    assert found == {**wanted, "small": 0, "large": -9, "few": 0, "many": 1}
