"""Eight workers at once: no key is used twice, no slot blocks another, no address event."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.model import Worker
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.fleets import Rig, running
from tests.inside import Client
from tests.waiting import until

COUNT, ROUNDS = 8, 5
LOOKS_SECONDS = 4.0
"""A look each 1.3 s had followed the first for as long as slots rotated."""


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Eight slots over thirty keys."""
    with running(lab, COUNT, changes={"netctl": {"key_cooldown_seconds": 0.5}}) as made:
        yield made


def test_eight_rotate_at_once(rig: Rig) -> None:
    """All connect and rotate together: every answer is good, all leases differ, no address event in the host."""
    judge = rig.popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE)
    clients = [rig.client(index) for index in range(COUNT)]
    devices = [worker.interface for worker in rig.fleet.members]
    until("devices are there", lambda: set(devices) <= set(rig.host(["wg", "show", "interfaces"]).stdout.split()), 20)

    def turn(client: Client, worker: Worker, do: str) -> str:
        tunnel = client.ask(do=do)["ok"]
        site = client.ask(do="tcp", host=str(WEB_ADDRESS), timeout=5)
        assert site["ok"]["from"] == str(worker.placeholder), site
        return str(tunnel["lease"])

    with ThreadPoolExecutor(COUNT) as pool:
        for number in range(ROUNDS):
            do = "rotate" if number else "connect"
            leases = list(pool.map(turn, clients, rig.fleet.members, [do] * COUNT))
            assert len(set(leases)) == COUNT
            peers = rig.host(["wg", "show", "all", "peers"], check=True).stdout.splitlines()
            assert len(peers) == COUNT
    judge.terminate()
    assert judge.communicate(timeout=10)[0] == ""
    for client in clients:
        client.kill()
    until("all sealed", lambda: {slot["state"] for slot in rig.status()["slots"]} == {"sealed"}, 10)
    until("all keys are free", lambda: rig.status()["pool"]["leased"] == 0, 10)


def test_a_neighbours_interface_may_come_and_go(rig: Rig) -> None:
    """wireguard-go of one worker dies and returns while another is connected: no address event, its tunnel stays."""
    client = rig.client(0)
    client.ask(do="connect")
    judge = rig.popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE)
    wireguard = rig.devices["wg105"]
    for _ in range(3):
        wireguard.kill()
        wireguard.wait()
        wireguard = rig.start_wireguard(rig.worker(4))
        until("it is set up again", lambda: "fleet:w1105" in rig.host(["ip", "link", "show", "wg105"]).stdout, 10)
        assert "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), timeout=5)
    judge.terminate()
    assert judge.communicate(timeout=10)[0] == ""
    client.kill()


def test_a_rule_comes_back_while_all_rotate(rig: Rig) -> None:
    """It comes back at once, after one look at the kernel: slots that rotate meanwhile cause no further looks."""
    clients = [rig.client(index) for index in range(COUNT)]
    looks, before, end = len(rig.logged("repair.looks")), rig.slot(0)["generation"], time.monotonic() + LOOKS_SECONDS

    def turn(client: Client) -> int:
        assert "ok" in client.ask(do="connect")
        done = 0
        while time.monotonic() < end:
            assert "ok" in client.ask(do="rotate")
            done += 1
        return done

    rule = ["uidrange", "1101-1101", "lookup", "10101"]
    with ThreadPoolExecutor(COUNT) as pool:
        turning = [pool.submit(turn, client) for client in clients]
        until("all rotate", lambda: rig.slot(0)["generation"] > before + 2, 10)
        rig.host(["ip", "rule", "delete", *rule, "priority", "10101"], check=True)
        until("it is back", lambda: " ".join(rule) in rig.host(["ip", "rule"]).stdout, 2)
        assert all(one.result() for one in turning)
    heard = [line["heard"] for line in rig.logged("repair.looks")[looks:]]
    first = heard.index(["rules"])
    assert [kinds for kinds in heard[first + 1 :] if kinds] == []  # the look each minute hears nothing
    for client in clients:
        client.kill()
