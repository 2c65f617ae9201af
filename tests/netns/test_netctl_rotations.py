"""A worker sends all the time while its exit changes; a capture before the site shows each packet's exit.

The keys that take turns have one address, as with many providers, so no server drops packets of another lease.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import run, vpn
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.fleets import Rig, running
from tests.inside import PIPES, ROOM, Client, Ear, scripts, server, speaking
from tests.programs.flows import TCP, UDP
from tests.waiting import frozen, until

ADDRESS, BULK = "198.18.200.2", 4491
ROTATIONS, STOPPED, QUEUES = 20, 10, 5
BETWEEN, EVERY, LAST = 997, 998, 999
"""Ports of what is sent between two transactions, of what no lease began, and of what is sent at the end."""
CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.01}}
REDIRECT = f"""
add table ip flows
add chain ip flows arriving {{ type nat hook prerouting priority -100; }}
add rule ip flows arriving tcp dport {TCP}-{TCP + LAST} redirect to :{BULK}
"""
CAPTURE = ["tcpdump", "-n", "-l", "-U", "--immediate-mode", "-i", "eth0", *ROOM, "-Q", "in"]
_SEEN = re.compile(rf"IP (\S+)\.\d+ > {re.escape(str(WEB_ADDRESS))}\.(\d+): ")
Exits = dict[int, Counter[str]]
"""By the site's port, how many packets came by which exit."""


@pytest.fixture(scope="module")
def folder(lab: Lab) -> Iterator[str]:
    """A pattern of files: a key at each server, all with one address."""
    with ExitStack() as stack:
        for one in lab.topology.vpn:
            own, control = vpn.Key.fresh(), lab.places.wireguard_socket(one.host, one.interface)
            public, back = f"public_key={own.public.hex()}", [f"{ADDRESS}/32", "dev", one.interface]
            vpn.ask(control, "set=1", public, f"allowed_ip={ADDRESS}/32")
            stack.callback(vpn.ask, control, "set=1", public, "remove=true")
            lab.run(one.host, ["ip", "route", "add", *back], check=True)
            stack.callback(lab.run, one.host, ["ip", "route", "delete", *back], check=True)
            text = next(lab.places.keys.glob(f"{one.host}-01.conf")).read_text()
            text = re.sub(r"(?m)^PrivateKey = .*", f"PrivateKey = {vpn.Key.text(own.private)}", text)
            path: Path = lab.places.keys / f"same-{one.host}.conf"
            path.write_text(re.sub(r"(?m)^Address = .*", f"Address = {ADDRESS}/32", text))
            stack.callback(path.unlink)
        yield "same-*.conf"


@dataclass
class Stage:
    """A worker's client, its program that keeps sending, and a capture that shows the exit of each packet."""

    rig: Rig
    client: Client
    sender: subprocess.Popen[str]
    ear: Ear

    def tell(self, word: str, number: int) -> None:
        """Give the program an order, and wait until it is done."""
        assert self.sender.stdin and self.sender.stdout
        self.sender.stdin.write(f"{word} {number}\n")
        self.sender.stdin.flush()
        assert self.sender.stdout.readline() == "done\n"

    def is_open(self) -> bool:
        """Whether the worker's gate is open, by nft."""
        worker = self.rig.worker()
        element = f'{{ {worker.uid} . "{worker.interface}" }}'
        return self.rig.there(["nft", "get", "element", "inet", "fleet", "open", element]).returncode == 0

    def seen(self) -> Exits:
        """What arrived, up to a packet that is sent now."""
        self.tell("free", LAST)
        lines: list[str] = []

        def ended() -> bool:
            lines.extend(self.ear.rest())
            return any(f".{UDP + LAST}: " in line for line in lines)

        until("the last packet is seen", ended, 10)
        found: Exits = {}
        for match in filter(None, map(_SEEN.search, lines)):
            found.setdefault(int(match[2]), Counter())[match[1]] += 1
        return found


@pytest.fixture
def stage(lab: Lab, isolation: str, folder: str) -> Iterator[Stage]:
    """Nothing is sent yet."""
    lab.run("web", ["nft", "-f", "-"], input=REDIRECT, check=True)
    with (
        speaking(lab, "web", server(lab, ("bulk", "::", BULK)), "ready"),
        speaking(lab, "web", [*CAPTURE, f"dst portrange {UDP}-{TCP + LAST}"], "listening on") as ear,
        running(lab, isolation=isolation, keys=(folder,), changes=CHANGES) as rig,
    ):
        program = ["/usr/bin/python3", "-I", str(scripts(lab) / "tests/programs/flows.py"), str(WEB_ADDRESS)]
        sender = rig.popen(rig.inside(rig.worker(), rig.as_worker(rig.worker(), *program)), **PIPES)
        assert sender.stdout and sender.stdout.readline() == "ready\n"
        yield Stage(rig, rig.client(), sender, ear)
    lab.run("web", ["nft", "delete", "table", "ip", "flows"], check=True)


def test_what_a_lease_began_is_seen_from_its_exit_alone(stage: Stage) -> None:
    """TCP and UDP connections keep sending through rotations; netctl is stopped between the two transactions of one.

    The control: an unconnected socket belongs to no lease, and is seen from every exit.
    """
    exits: list[str] = []
    stage.tell("free", EVERY)
    stage.client.send(do="connect")
    for number in range(ROTATIONS):
        exits.append(stage.client.answer()["ok"]["exit_address"])
        stage.tell("open", number)
        if number != STOPPED:
            stage.client.send(do="rotate")
            continue
        assert stage.rig.netctl
        with frozen(*stage.rig.server_pids()):
            stage.client.send(do="rotate")
            until("the gate is closed", lambda: not stage.is_open(), 5)
            with frozen(stage.rig.netctl.pid):
                stage.tell("burst", BETWEEN)
                assert not stage.is_open()
    assert "ok" in stage.client.answer()
    seen = stage.seen()
    assert {*seen.pop(UDP + EVERY)} == {*exits} and len({*exits}) > 1
    seen.pop(UDP + LAST)
    assert UDP + BETWEEN not in seen
    assert seen.keys() == {first + number for first in (UDP, TCP) for number in range(ROTATIONS)}
    wrong = {port: found for port, found in seen.items() if {*found} != {exits[port % 10_000]}}
    assert not wrong, (wrong, exits)


def test_what_lies_in_the_devices_queue_leaves_by_no_other_exit(stage: Stage) -> None:
    """A stopped device has queued what was sent, and continues when its gate is closed and its key has changed.

    The control: without a rotation it leaves, so it was in the queue.
    """
    device, exits = stage.rig.devices[stage.rig.worker().interface].pid, list[str]()
    answer = stage.client.ask(do="connect")
    for number in range(QUEUES):
        exits.append(answer["ok"]["exit_address"])
        with frozen(device):
            stage.tell("burst", number)
            stage.client.send(do="rotate")
            until("the gate is closed", lambda: not stage.is_open(), 5)
        answer = stage.client.answer()
    with frozen(device):
        stage.tell("burst", QUEUES)
    seen = stage.seen()
    assert {*seen[UDP + QUEUES]} == {answer["ok"]["exit_address"]}
    wrong = {number: seen[UDP + number] for number, own in enumerate(exits) if {*seen.get(UDP + number, ())} - {own}}
    assert not wrong, (wrong, exits)


def test_sockets_of_a_rotation_that_was_cut_off_take_no_other_exit(stage: Stage) -> None:
    """netctl is killed after it took another key, before it ended the sockets: the next netctl seals the slot.

    The control: until then the sockets exist and send.
    """
    answer = stage.client.ask(do="connect")
    stage.tell("open", 0)
    generation, established = stage.rig.slot()["generation"], ["ss", "-tnH", "dst", str(WEB_ADDRESS)]
    with frozen(stage.rig.devices[stage.rig.worker().interface].pid):
        stage.client.send(do="rotate")
        until("another key is taken", lambda: stage.rig.slot()["generation"] > generation, 5)
        stage.rig.kill_netctl()
    assert stage.rig.there(established).stdout
    assert stage.client.answer()["error"] == "HungUp"
    planned = stage.rig.command("plan").stdout
    assert "every peer removed" in planned and "add element" not in planned
    stage.rig.start_netctl()
    assert not stage.is_open() and stage.rig.slot()["state"] == "sealed"
    assert not stage.rig.there(established).stdout
    again = stage.client.ask(do="connect")
    assert "ok" in again, again
    seen = stage.seen()
    assert {*seen[UDP + LAST]} == {again["ok"]["exit_address"]}
    assert {*seen[UDP], *seen[TCP]} == {answer["ok"]["exit_address"]}
