"""The performance of netctl with many slots: `sudo bin/bench slots`.

A lab of its own, `netctl serve` as the supervisor starts it, one wireguard-go per worker. Measured: connect and rotate,
many at once and alone, the status, and netctl's idle processor time and memory.
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
from collections.abc import Iterator, Mapping, Sequence
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
"""wireguard-go watches its socket through one of these, and one user has only so many."""
Costs = dict[str, float]
"""Seconds of processor time, by process."""
LEAST_ROTATIONS = 600
"""With fewer, netctl's periodic work counts for more than a rotation."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="bench slots", description=__doc__)
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32, help="of fewer slots all")
    parser.add_argument("--rounds", type=int, default=3, help=f"of all slots, or {LEAST_ROTATIONS} rotations")
    parser.add_argument("--idle-seconds", type=float, default=30)
    parser.add_argument("--lab", default="bench", help="the lab's name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.at_once = min(arguments.at_once, arguments.slots)
    arguments.rounds = max(arguments.rounds, -(-LEAST_ROTATIONS // arguments.slots))
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
    # Without --debug, whose log lines cost a part of a tunnel's time.
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
    """The crowd's figures, and netctl's cost while it holds its tunnels."""
    assert rig.netctl
    numbers = (rig.worker().uid, arguments.slots, arguments.at_once, arguments.rounds)
    argv = [sys.executable, "-m", "bench.crowd", str(rig.paths.netctl_socket), *map(str, numbers)]
    crowd = rig.popen(argv, cwd=CHECKOUT, **PIPES)
    tunnels = [*(device.pid for device in rig.devices.values()), *rig.server_pids()]
    found, busy = stages(crowd, {"netctl": [rig.netctl.pid], "wireguard-go, both ends": tunnels})
    assert found["states"] == ["connected"] * arguments.slots, found["states"]
    alone = statistics.median(handshake for _, handshake in found["rotate alone"])
    report: dict[str, Any] = {
        "handshake of one alone, ms": spread([handshake for _, handshake in found["rotate alone"]]),
        "rotate of one alone, ms": spread([took for took, _ in found["rotate alone"]]),
    }
    for what in ("connect", "rotate"):
        report[f"{what} beyond that handshake, ms"] = spread([took - alone for took, _ in found[what]])
        report[f"{what} beyond its own handshake, ms"] = spread([took - shake for took, shake in found[what]])
        for who, seconds in busy[what].items():
            report[f"{what}, processor time of {who}, ms"] = round(seconds * 1000 / len(found[what]), 2)
    report |= {
        "status of all, ms": spread(found["status"]),
        "status of all, processor time of netctl, ms": round(busy["status"]["netctl"] * 1000 / len(found["status"]), 1),
        "status of all, bytes": found["status bytes"],
        "status of one, ms": spread(found["status of one"]),
        "netctl status --json as a command, ms": spread([command(rig) for _ in range(5)]),
        "memory in use, MB": memory(rig.netctl.pid),
    }
    report |= idle(rig.netctl.pid, arguments.idle_seconds)
    crowd.communicate("\n", timeout=30)
    return report


def stages(crowd: subprocess.Popen[str], who: Mapping[str, Sequence[int]]) -> tuple[dict[str, Any], dict[str, Costs]]:
    """The crowd's figures, and the processor time of WHO (pids by name) in each stage; the crowd waits at the last.

    Beside them what the machine had to give, all processors together.
    """
    assert crowd.stdout and crowd.stdin
    found: dict[str, Any] = {}
    busy: dict[str, Costs] = {}
    before = costs(who)
    for line in crowd.stdout:
        told, now = json.loads(line), costs(who)
        found[told["stage"]], busy[told["stage"]] = told["numbers"], {name: now[name] - before[name] for name in now}
        if told["stage"] == "end":
            return found, busy
        before = costs(who)
        crowd.stdin.write("on\n")
        crowd.stdin.flush()
    raise SystemExit("the crowd has ended before its time")


def costs(who: Mapping[str, Sequence[int]]) -> Costs:
    """So far."""
    found = {name: sum(map(processor, pids)) for name, pids in who.items()}
    return {**found, "the whole machine, busy or not": time.monotonic() * (os.cpu_count() or 1)}


def command(rig: Rig) -> float:
    """Milliseconds of the whole command."""
    started = time.perf_counter()
    rig.command("status", "--json", check=True)
    return (time.perf_counter() - started) * 1000


def idle(pid: int, seconds: float) -> dict[str, Any]:
    """The processor time that PID uses without requests."""
    before = processor(pid)
    time.sleep(seconds)  # the measured time itself
    return {"processor when idle, %": round((processor(pid) - before) / seconds * 100, 2)}


def processor(pid: int) -> float:
    """Seconds of processor time that PID has used: the clock of clock_getcpuclockid(3)."""
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> float:
    """Resident memory of PID in MB."""
    return round(int(processes.status(pid)["VmRSS"].split()[0]) * 1024 / 1e6, 1)


def spread(values: Sequence[float]) -> str:
    """Median, 99th percentile (of those measured) and worst."""
    ordered = sorted(values)
    last = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"p50 {statistics.median(ordered):.1f}, p99 {last:.1f}, worst {ordered[-1]:.1f} (of {len(ordered)})"


def machine() -> str:
    """The machine on which the numbers were measured."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line)
    software = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model.split(':')[1].strip()}, {software}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("bench slots: needs root, run: sudo bin/bench slots")
    main()
