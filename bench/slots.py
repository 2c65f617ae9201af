"""How netctl does with many slots: `sudo bin/bench slots`.

A lab of its own, `netctl serve` as the supervisor starts it, one wireguard-go a worker. Measured: connect and rotate
with many at once, alone, the status, what netctl costs when nothing happens, and its memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.machine import processes
from lab import run
from lab.net import Lab
from tests.fleets import CHECKOUT, Rig
from tests.inside import PIPES
from tests.waiting import until

CHANGES: run.Changes = {
    "netctl": {
        **{"key_cooldown_seconds": 0.5, "requests_per_second": 1000, "requests_burst": 1000},
        **{"connections_per_second": 1000, "connections_burst": 1000},
    }
}
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
"""wireguard-go watches its socket through one of these; more of them cannot run as one user."""
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="bench slots", description=__doc__)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="how often every slot rotates")
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--lab", default="bench", help="the lab's name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.slots > (most := int(INSTANCES.read_text()) - 2):
        sys.exit(f"this machine runs {most} wireguard-go of one user: sysctl -w fs.inotify.max_user_instances=1024")
    with laboratory(arguments.lab, arguments.slots) as lab:
        report = measure(lab, arguments)
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(f"{name}: {value}" for name, value in report.items()))


@contextmanager
def laboratory(name: str, slots: int) -> Iterator[Lab]:
    """A lab with more keys than SLOTS, over nine servers."""
    lab = Lab(name, servers=9, keys=-(-(slots + 400) // 9))
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


def measure(lab: Lab, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order."""
    # Without --debug, whose lines are a part of what a tunnel costs.
    rig = Rig(lab, arguments.slots, changes=CHANGES, debug=False)
    try:
        for worker in rig.fleet.members:
            rig.start_wireguard(worker)
        sockets = lab.places.at("host") / "wireguard"
        until("wireguard-go is there", lambda: len(list(sockets.glob("wg*.sock"))) == arguments.slots, 120)
        started = time.perf_counter()
        pid = rig.start_netctl(wait=False).pid
        until("netctl serves", lambda: rig.logged("netctl.ready"), 120)
        report: dict[str, Any] = {"machine": machine(), "slots": arguments.slots, "at once": arguments.at_once}
        report["start, s"] = round(time.perf_counter() - started, 1)
        report["memory at start, MB"] = memory(pid)
        report |= crowded(rig, arguments)
        return report
    finally:
        rig.stop()


def crowded(rig: Rig, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the crowd measures, and what netctl costs while it holds its tunnels."""
    assert rig.netctl
    numbers = (rig.worker().uid, arguments.slots, arguments.at_once, arguments.rounds)
    argv = [sys.executable, "-m", "bench.crowd", str(rig.paths.netctl_socket), *map(str, numbers)]
    crowd = rig.popen(argv, cwd=CHECKOUT, **PIPES)
    found, busy = stages(crowd, rig.netctl.pid)
    assert found["states"] == ["connected"] * arguments.slots, found["states"]
    alone = statistics.median(handshake for _, handshake in found["rotate alone"])
    report: dict[str, Any] = {
        "handshake of one alone, ms": spread([handshake for _, handshake in found["rotate alone"]]),
        "rotate of one alone, ms": spread([took for took, _ in found["rotate alone"]]),
    }
    for what in ("connect", "rotate"):
        report[f"{what} beyond that handshake, ms"] = spread([took - alone for took, _ in found[what]])
        report[f"{what} beyond its own handshake, ms"] = spread([took - shake for took, shake in found[what]])
        report[f"{what}, processor time of netctl, ms"] = round(busy[what] * 1000 / len(found[what]), 1)
    report |= {
        "status of all, ms": spread(found["status"]),
        "status of all, processor time of netctl, ms": round(busy["status"] * 1000 / len(found["status"]), 1),
        "status of all, bytes": found["status bytes"],
        "status of one, ms": spread(found["status of one"]),
        "netctl status --json as a command, ms": spread([command(rig) for _ in range(5)]),
        "memory in use, MB": memory(rig.netctl.pid),
    }
    report |= idle(rig.netctl.pid, arguments.idle_seconds)
    crowd.communicate("\n", timeout=30)
    return report


def stages(crowd: subprocess.Popen[str], pid: int) -> tuple[dict[str, Any], dict[str, float]]:
    """What the crowd measured, and PID's processor time in each stage, in seconds; the crowd waits at the last."""
    assert crowd.stdout and crowd.stdin
    found: dict[str, Any] = {}
    busy: dict[str, float] = {}
    before = processor(pid)
    for line in crowd.stdout:
        told = json.loads(line)
        now = processor(pid)
        found[told["stage"]], busy[told["stage"]], before = told["numbers"], now - before, now
        if told["stage"] == "end":
            return found, busy
        crowd.stdin.write("on\n")
        crowd.stdin.flush()
    raise SystemExit("the crowd has ended before its time")


def command(rig: Rig) -> float:
    """Milliseconds of the whole command."""
    started = time.perf_counter()
    rig.command("status", "--json", check=True)
    return (time.perf_counter() - started) * 1000


def idle(pid: int, seconds: float) -> dict[str, Any]:
    """What PID uses while nobody asks for anything."""
    before = processor(pid)
    time.sleep(seconds)  # the time is what is measured over
    return {"processor when idle, %": round((processor(pid) - before) / seconds * 100, 2)}


def processor(pid: int) -> float:
    """Seconds of processor time that PID has used (proc(5), stat: utime and stime)."""
    fields = processes.stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def memory(pid: int) -> float:
    """Resident memory of PID in MB."""
    return round(int(processes.status(pid)["VmRSS"].split()[0]) * 1024 / 1e6, 1)


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile (of those measured) and worst."""
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"p50 {statistics.median(ordered):.1f}, p99 {last:.1f}, worst {ordered[-1]:.1f} (of {len(ordered)})"


def machine() -> str:
    """What the numbers were made on."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    software = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model.split(':')[1].strip()}, {software}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("bench slots: needs root, run: sudo bin/bench slots")
    main()
