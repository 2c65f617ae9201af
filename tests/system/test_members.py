"""`fleet reload` with more and fewer workers: the others' loops go on, and a removed worker leaves nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone

import psutil
import pytest

from fleet.isolation import NETNS
from fleet.model import Worker
from fleet.spool import read_spool
from lab import run
from lab.events import AddressListener
from lab.net import Lab
from lab.topology import SITE_NAME
from tests.fleets import FREE, Host
from tests.inside import PIPES
from tests.supervisors import pids
from tests.waiting import until

FIRST_UID = 1561
STAYS, COMES = Worker(uid=FIRST_UID), Worker(uid=FIRST_UID + 1)
PAGES: run.Changes = {
    "task": {"run": "visit"},
    "task.options": {"urls": [f"https://{SITE_NAME}/"]},
    "loop": {"pause_seconds": 4},  # browsers that keep loading take processor time from what a test checks
}
PAST_THE_TUNNEL = """
import socket, sys, time
print("sends", flush=True)
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"uplink")
            out.sendto(b"x", ("198.51.100.99", 9))
        except OSError:
            pass
    time.sleep(0.002)
"""


class Changing(Host):
    """A fleet whose count changes while it runs."""

    usual = PAGES

    def has(self, count: int) -> None:
        """Set the count in fleet.toml to COUNT."""
        self.configure({"workers": {"count": count}})

    def loops(self, worker: Worker) -> int:
        return sum(1 for _ in self.paths.spool(worker).glob("*-*.json"))

    def another_loop(self, worker: Worker) -> None:
        """Wait until WORKER has handed in another loop."""
        loops = self.loops(worker)
        until(f"a loop of {worker.name}", lambda: self.loops(worker) > loops, 120)

    def marks(self, worker: Worker) -> dict[str, bool]:
        """Which things of WORKER exist: rules, link or namespace, its UID in the table, processes, programs."""
        rules = self.json("ip", "-json", "rule")
        links = {link["ifname"] for link in self.json("ip", "-json", "link")}
        table = json.loads(self.host(["nft", "-j", "list", "set", "inet", "fleet", "workers"], check=True).stdout)
        uids = [one for part in table["nftables"] for one in part.get("set", {}).get("elem", [])]
        programs = pids(self.installation)
        return {
            "tunnel": self.paths.space(worker).exists()
            or (worker.interface in links and any(rule["priority"] == worker.table for rule in rules)),
            "held": worker.uid in uids,
            "processes": any(one.uids().real == worker.uid for one in psutil.process_iter()),
            "program": f"worker:{worker.name}" in programs or f"wg:{worker.interface}" in programs,
        }


@pytest.fixture
def host(bare: Lab, isolation: str) -> Iterator[Changing]:
    """A fleet with one working worker."""
    made = Changing(bare, 1, first_uid=FIRST_UID, isolation=isolation)
    made.prepare()
    try:
        assert made.operate("up").returncode == 0
        until("its first loop", lambda: made.loops(STAYS), 60)
        yield made
    finally:
        done = made.operate("down")
    assert done.returncode == 0, done.stderr


@contextmanager
def sent_past(host: Changing, *workers: Worker) -> Iterator[dict[int, int]]:
    """Programs of these UIDs, confined by netctl alone, try to send past their tunnels; at the end: how much left."""
    rules = "".join(f'meta skuid {one.uid} oifname "uplink" counter comment "{one.uid}"\n' for one in workers)
    table = f"table inet probe {{\nchain out {{\ntype filter hook postrouting priority 400\n{rules}}}\n}}\n"
    host.host(["nft", "-f", "-"], input=table, check=True)
    left: dict[int, int] = {}
    with ExitStack() as ends:
        ends.callback(host.host, ["nft", "delete", "table", "inet", "probe"], check=True)
        for one in workers:
            sender = host.popen(host.as_worker(one, "/usr/bin/python3", "-Ic", PAST_THE_TUNNEL), **PIPES)
            ends.callback(sender.kill)
            assert sender.stdout
            assert sender.stdout.readline() == "sends\n"
        yield left
        found = json.loads(host.host(["nft", "-j", "list", "table", "inet", "probe"], check=True).stdout)["nftables"]
        for rule in (one["rule"] for one in found if "rule" in one):
            left[int(rule["comment"])] = sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)


def test_workers_join_and_leave_beside_the_loops_of_the_others(host: Changing) -> None:
    """One more and one fewer: nothing of the other's loops is lost, and nothing of its UID leaves past its tunnel.

    A new worker works, confined like all others. A reload that is killed while it waits for a leaving worker changes
    nothing, and the next one completes it: the worker's rules, namespace, device, programs and processes are gone. In
    netns no address changes in the other's namespace; in uid one changes on `lo`, which a Chrome without netlink does
    not notice (with netlink the count needs a new start: tests/unit/test_fleet_reload.py).
    """
    began, shared = datetime.now(timezone.utc), host.fleet.walls is not NETNS
    process = pids(host.installation)[f"worker:{STAYS.name}"]
    assert host.marks(COMES) == dict.fromkeys(("tunnel", "held", "processes", "program"), False)
    with (
        sent_past(host, STAYS, FREE) as left,
        AddressListener(host.lab.topology.namespace("host")) as listener,
    ):
        host.has(2)
        done = host.operate("reload")
        assert (done.returncode, "applied: workers.count" in done.stderr) == (0, True), done.stderr
        assert host.marks(COMES) == dict.fromkeys(("tunnel", "held", "processes", "program"), True)
        until("the first loop of who has joined", lambda: host.loops(COMES), 60)
        host.has(1)
        killed = host.popen(host.installation.module("fleet", "reload"), stderr=subprocess.PIPE)
        assert killed.stderr
        assert f"ending {COMES.name}" in killed.stderr.readline()
        killed.kill()
        killed.wait(10)
        done = host.operate("reload")
        assert (done.returncode, "applied: workers.count" in done.stderr) == (0, True), done.stderr
        assert host.marks(COMES) == dict.fromkeys(("tunnel", "held", "processes", "program"), False)
        host.another_loop(STAYS)
        events = listener.between(began, datetime.now(timezone.utc))
    assert left[FREE.uid] > 0 and left[STAYS.uid] == 0, left
    assert {one.address for one in events} == ({str(one) for one in COMES.placeholders} if shared else set()), events
    assert pids(host.installation)[f"worker:{STAYS.name}"] == process > 0
    for result in (*read_spool(host.paths.spool(STAYS)), *read_spool(host.paths.spool(COMES))):
        assert (result.ok, result.attempts, result.network_changed, result.other_losses) == (True, 1, 0, 0), result
    assert [one["state"] for one in host.status()["slots"]] == ["connected"]
    assert "nothing has changed" in host.operate("reload").stderr
