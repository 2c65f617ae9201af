"""netctl under frames that no honest client sends, and a proof that its fall would be noticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab import run
from lab.net import Lab
from tests.fleets import CHECKOUT, Rig, running
from tests.fuzz.planted import MANY, WIDE
from tests.fuzz.watched import Watched
from tests.inside import PIPES
from tests.waiting import until

CHANGES: run.Changes = {
    "netctl": {**WIDE, "key_cooldown_seconds": 0.1, "key_requests_per_second": MANY, "key_requests_burst": MANY}
}
HERE = {**PIPES, "cwd": CHECKOUT}


@pytest.fixture
def rig(lab: Lab) -> Iterator[Rig]:
    """netctl with two slots and their wireguard-go, its rates as good as off: the frames shall come through."""
    with running(lab, 2, changes=CHANGES) as made:
        yield made


def test_netctl_stands(rig: Rig, pytestconfig: pytest.Config) -> None:
    """After all frames of a worker: no crash in the log, memory flat, a neighbour's tunnel and requests as before."""
    frames, seed = pytestconfig.getoption("--frames"), pytestconfig.getoption("--seed")
    assert rig.netctl
    neighbour = rig.client(1)
    before = neighbour.ask(do="connect")["ok"]
    watched = Watched(rig.netctl, rig.log, rig.paths.netctl_socket)
    sent = watched.suffer(
        frames, uid=rig.worker(0).uid, seed=seed, start=lambda argv: rig.lab.popen("host", as_member(argv), **HERE)
    )
    print(f"{sent} frames, answers {watched.answers}, resident memory {watched.resident}")
    assert sent >= frames
    assert sum(watched.answers.values()) > 0.9 * sent, "each is answered, or its sender hung up"
    assert {"result", "ProtocolError"} <= set(watched.answers)
    assert watched.faults() == []
    assert neighbour.ask(do="status")["ok"]["slots"][0]["lease"] == before["lease"]
    assert "ok" in neighbour.ask(do="rotate")


def as_member(argv: Sequence[str]) -> list[str]:
    """ARGV in the workers' group: theirs is the socket's folder. The attacker takes the worker's UID itself."""
    return ["setpriv", "--regid=fleet", "--clear-groups", *argv]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("crash", "request.crashed"),
        ("crash when closed", "connection.crashed"),
        ("leak", "resident memory grew"),
        ("end", "it ended with code 3"),
        ("mute", "a valid request is not answered"),
    ],
)
def test_a_planted_fault_is_noticed(fault: str, told: str, tmp_path: Path) -> None:
    """The same frames and the same looks find each fault that is really there."""
    path, log = tmp_path / "s.sock", tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.planted", str(path), fault], cwd=CHECKOUT, stdout=file, stderr=file
        )
    try:
        until("it serves", path.exists, 20)
        watched = Watched(server, log, path)
        watched.look()
        watched.suffer(3000, uid=0, seed=1, start=lambda argv: subprocess.Popen(argv, text=True, **HERE))
        if fault == "end":
            server.wait(10)
        assert any(told in one for one in watched.faults())
    finally:
        server.kill()
        server.wait(10)
