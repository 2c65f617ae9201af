"""Who may connect to the real netctl's sockets, and what a hostile worker costs its neighbour there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import run
from lab.net import Lab
from tests.fleets import CHECKOUT, Rig, running
from tests.waiting import until

GROUP = "daemon"
"""A group that every system has stands in for the operators'."""
PERSON = 4711


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Two slots, with the default limits."""
    settings: run.Keys = {"operator_group": GROUP, "key_requests_per_second": 1, "key_requests_burst": 4}
    with running(lab, 2, changes={"netctl": settings}) as made:
        yield made


def ask_as(rig: Rig, *identity: str) -> subprocess.CompletedProcess[str]:
    """`netctl status --json` under another identity."""
    return rig.host(["setpriv", *identity, *rig.installation.module("netctl", "status", "--json")], cwd="/")


def test_an_operator_sees_every_slot(rig: Rig) -> None:
    """A member of the operators' group connects to its own socket and gets the status, as root does."""
    done = ask_as(rig, f"--reuid={PERSON}", f"--regid={PERSON}", f"--groups={GROUP}")
    assert done.returncode == 0, done.stderr
    assert [slot["worker"] for slot in json.loads(done.stdout)["slots"]] == ["w1101", "w1102"]
    door = rig.paths.netctl_operator_socket
    assert (door.stat().st_mode & 0o777, door.parent.stat().st_mode & 0o777) == (0o660, 0o750)
    assert door.group() == door.parent.group() == GROUP


def test_a_stranger_gets_one_line_of_refusal(rig: Rig) -> None:
    """A user outside the fleet's groups can open neither socket; a UID in the group but of no worker is refused."""
    outside = ask_as(rig, f"--reuid={PERSON}", f"--regid={PERSON}", "--clear-groups")
    assert outside.returncode == 77 and "may not open it" in outside.stderr
    inside = ask_as(rig, "--reuid=1109", "--regid=fleet", "--clear-groups")
    assert inside.returncode == 77 and "not UID 1109" in inside.stderr
    assert "Traceback" not in outside.stderr + inside.stderr


def test_a_worker_sees_its_own_slot_alone(rig: Rig) -> None:
    """Over either socket, whatever groups it is in."""
    for identity in (("--regid=fleet", "--clear-groups"), ("--regid=fleet", f"--groups={GROUP}")):
        done = ask_as(rig, "--reuid=1101", *identity)
        status = json.loads(done.stdout)
        assert [slot["worker"] for slot in status["slots"]] == ["w1101"]
        assert status["pool"] is None


def test_a_worker_that_only_rotates_is_slowed_down(rig: Rig) -> None:
    """After its burst it gets one key per second, without error; another worker gets its keys at once."""
    greedy, modest = rig.client(0), rig.client(1)
    greedy.ask(do="connect")
    for _ in range(3):
        assert "ok" in greedy.ask(do="rotate")
    took = greedy.timed(do="rotate")[1]
    assert took > 500
    assert "ok" in modest.ask(do="connect")
    assert modest.timed(do="rotate")[1] < took
    assert rig.slot(0)["state"] == "connected"
    greedy.kill()
    modest.kill()


@pytest.mark.parametrize("kind", ["connects", "asks", "deaf"])
def test_a_hostile_worker_is_its_own_trouble(rig: Rig, kind: str) -> None:
    """While one worker floods the socket in any way, another connects, asks and ends; the log stays short."""
    lines = len(rig.log.read_text().splitlines())
    uid, socket = rig.worker(0).uid, str(rig.paths.netctl_socket)
    argv = ["setpriv", "--regid=fleet", "--clear-groups", sys.executable, "-m", "tests.unit.hostile", socket]
    attacker = rig.popen([*argv, str(uid), kind], stdout=subprocess.PIPE, cwd=CHECKOUT)
    assert attacker.stdout and attacker.stdout.readline() == "on\n"
    neighbour = rig.client(1)
    assert "ok" in neighbour.ask(do="connect")
    for _ in range(20):
        assert "ok" in neighbour.ask(do="status")
    neighbour.kill()
    until("the neighbour's slot is sealed", lambda: rig.slot(1)["state"] == "sealed", 10)
    attacker.kill()
    attacker.wait(10)
    refusals = rig.log.read_text().splitlines()[lines:]
    assert sum(f'"uid": {uid}' in line and "refused" in line for line in refusals) < 10
