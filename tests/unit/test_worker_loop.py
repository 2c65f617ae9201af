"""The loop of a worker, against the stand-in of netctl: what fails costs the loop and not the worker."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from fleet import log
from fleet.errors import NotAllowed
from fleet.model import Fleet, Paths
from fleet.result import RunOrder
from fleet.spool import read_spool
from tests.room import full_disk
from tests.unit.test_worker_tunnel import Daemon
from worker.browser.interface import Installed
from worker.loop import Loop
from worker.tasks.registry import resolve

SETTINGS = {
    "workers": {"count": 1, "first_uid": 1101},
    "dns": {"resolvers": ["203.0.113.53"]},
    "egress": {"urls": ["https://nobody.invalid/"]},
    "task": {"run": "json:dumps"},
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Paths with a netctl that answers, and refuses every tunnel."""
    made = Paths(root=tmp_path)
    made.netctl_socket.parent.mkdir(parents=True)
    return made


def run(paths: Paths, loops: int, pause_seconds: float = 0) -> None:
    """A worker's life with so many loops; none gets a tunnel."""
    fleet = Fleet.model_validate({**SETTINGS, "loop": {"attempts": 1, "pause_seconds": pause_seconds}})
    installed = Installed(browser=Path("/none"), driver=Path("/none"), version="1.0")
    daemon = Daemon(paths.netctl_socket)
    daemon.leases.refuse = NotAllowed
    daemon.start()
    try:
        loop = Loop(fleet, paths, fleet.members[0], installed, resolve(fleet.task))
        loop.run(RunOrder(run="run-1", loops=loops))
    finally:
        daemon.stop()


def test_a_failed_loop_is_handed_in(paths: Paths) -> None:
    """With its reason and the stage; the next life goes on after it, past whatever lies in the spool."""
    run(paths, 1)
    spool = next(paths.state.glob("workers/*/spool"))
    (spool / "run-1-000002.json").mkdir()
    (spool / ".run-1-000003.json.new").mkdir()
    run(paths, 4)
    results = read_spool(spool)
    assert [one.loop for one in results] == [1, 2, 4]
    assert (spool / "run-1-000002.json.bad").is_dir()
    assert [(one.ok, one.attempts, one.failures[0].name, one.failures[0].stage) for one in results] == [
        (False, 1, "NotAllowed", "tunnel")
    ] * 3


@pytest.mark.parametrize("loops", [1, 2])
def test_a_worker_rests_between_two_loops_alone(paths: Paths, loops: int) -> None:
    """No rest comes before the first loop of a life, nor after the last, whose end somebody waits for."""
    started = time.monotonic()
    run(paths, loops, pause_seconds=1.5)
    assert (time.monotonic() - started > 1.4) == (loops == 2)


def test_a_result_waits_for_room(paths: Paths, root: None, capsys: pytest.CaptureFixture[str]) -> None:
    """On a full disk: the log names the folder, and the result is written once there is room; no loop is left out."""
    log.configure()
    spool = paths.state / "workers/w1101/spool"
    spool.parent.mkdir(parents=True)
    with full_disk(spool.parent) as filler:
        freed = threading.Timer(1.5, filler.unlink)
        freed.start()
        run(paths, 2)
        freed.join()
        first, second = read_spool(spool)
    assert (first.loop, second.loop) == (1, 2) and (second.started - first.finished).total_seconds() > 1
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "disk.full" in line]
    assert [(one["loop"], one["folder"]) for one in told] == [(1, str(spool))]


def test_a_loop_that_cannot_be_handed_in_costs_itself_alone(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says why it is not there, with its number, and the worker does the next one."""
    log.configure()
    home = paths.state / "workers/w1101"
    for number in (1, 2):
        (home / f"spool/.run-1-{number:06d}.json.new").mkdir(parents=True)
    run(paths, 3)
    assert [one.loop for one in read_spool(home / "spool")] == [3]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lost = [line for line in lines if line["event"] == "loop.not_handed_in"]
    assert [line["loop"] for line in lost] == [1, 2]
    assert "IsADirectoryError" in json.dumps(lost[0])
