"""Control groups as the kernel has them: in the virtual machine alone, whose groups nobody else divides."""

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
import json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fleet import cgroups
(Path(sys.argv[2]) / "cgroup.procs").write_text("0")
divided = cgroups.divide(cgroups.own())
own = cgroups.own()
group = cgroups.of_worker("w1101", own)
def worker(code):
    child = os.fork()
    if child == 0:
        cgroups.join(group, memory_mebibytes=64, processes=20)
        os.execv(sys.executable, [sys.executable, "-Ic", code])
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
THREADS = "import threading; gate = threading.Event(); made = [threading.Thread(target=gate.wait) for _ in range(%d)]"
START = THREADS + "\\ntry: [one.start() for one in made]\\nfinally: gate.set()"
print(json.dumps({
    "divided": divided, "own": str(own), "again": cgroups.divide(own),
    "small": worker("bytearray(8 << 20)"), "large": worker("bytearray(200 << 20)"),
    "few": worker(START % 10), "many": worker(START % 40),
}))
"""


@pytest.fixture
def group(root: None, tmp_path: Path) -> Iterator[Path]:
    """A group that has been delegated, as systemd does it."""
    top = tmp_path / "cgroup"
    top.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(top)], check=True)
    (top / "cgroup.subtree_control").write_text("+memory +pids")
    made = top / "fleet.service"
    made.mkdir()
    os.setxattr(made, "trusted.delegate", b"1")
    yield made
    subprocess.run(["umount", "--lazy", str(top)], check=True)


def test_limits_of_a_worker_hold(group: Path) -> None:
    """Divided by us, a worker over its memory is killed and one over its processes refused; below both, neither is."""
    argv = [sys.executable, "-Ic", LIFE, str(CHECKOUT), str(group)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = {"divided": True, "own": str(group / "supervisor"), "again": True}
    assert json.loads(done.stdout) == {**wanted, "small": 0, "large": -9, "few": 0, "many": 1}
