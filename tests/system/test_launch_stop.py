"""SIGTERM of a worker at any stage: it ends by itself with code 0, within its time, and leaves nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import pytest

from fleet.model import Worker, WorkersSettings
from fleet.spool import read_spool
from lab import run
from lab.net import Lab
from tests.system.test_kills import STAGES, Running, alive, logged
from tests.waiting import until

WORKER = Worker(uid=1195)


@pytest.fixture(scope="module")
def running(root: None) -> Iterator[Running]:
    """One worker that loops for ever."""
    lab = Lab(f"s{os.getpid() % 10_000}")
    lab.up()
    try:
        run.prepare(lab, 1, first_uid=WORKER.uid)
        made = Running(lab)
        made.fleet("up")
        until("the first loop", partial(made.loops, WORKER), 120)
        yield made
        made.fleet("down")
    finally:
        lab.down()


@pytest.mark.parametrize("stage", STAGES)
def test_stop_at_any_stage(running: Running, stage: str) -> None:
    """`supervisorctl stop` ends the worker long before it would be killed; code 0, no process, no half result."""
    name, supervisor_log = f"worker:{WORKER.name}", running.log("supervisord")
    here, there = running.log(WORKER.name).stat().st_size, supervisor_log.stat().st_size
    until(f"stage {stage}", partial(logged, running.log(WORKER.name), here, event="stage.begun", stage=stage), 60)
    asked = time.monotonic()
    assert "stopped" in running.fleet("supervisorctl", "stop", name)
    print(f"stopped in {stage}: {time.monotonic() - asked:.1f} s, the control program's start included")
    assert time.monotonic() - asked < WorkersSettings().stop_wait_seconds
    with supervisor_log.open() as file:
        file.seek(there)
        assert f"stopped: {WORKER.name} (exit status 0)" in file.read()
    assert alive(WORKER) == []
    spool = run.paths(running.lab).spool(WORKER)
    handed_in = [result.loop for result in read_spool(spool)]
    assert handed_in == list(range(1, len(handed_in) + 1)), "loops go on where the life before ended"
    assert not list(spool.glob(".*"))
    running.fleet("supervisorctl", "start", name)
    until("the next loop", lambda: running.loops(WORKER) > len(handed_in), 90)
    assert running.results(WORKER)[-1].ok
