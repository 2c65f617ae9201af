"""SIGTERM to a worker at any stage: it ends by itself with exit code 0, within its time, and leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from fleet.model import Worker, WorkersSettings
from fleet.spool import read_spool
from lab.net import Lab
from tests.system.test_kills import STAGES, Running, alive, logged
from tests.waiting import until

WORKER = Worker(uid=1195)
NAME = f"worker:{WORKER.name}"


@pytest.fixture(scope="module")
def running(bare: Lab) -> Iterator[Running]:
    """One worker that loops for ever."""
    made = Running(bare, first_uid=WORKER.uid)
    try:
        yield made.up()
    finally:
        made.fleet_says("down")


@pytest.mark.parametrize("stage", STAGES)
def test_stop_at_any_stage(running: Running, stage: str) -> None:
    """`supervisorctl stop` ends the worker long before it would be killed; exit code 0, no process, no half result.

    The stages are in the order of a loop: each start gets further than the previous one.
    """
    supervisor_log = running.paths.log("supervisord")
    here, there = running.paths.log(WORKER.name).stat().st_size, supervisor_log.stat().st_size
    running.operate("supervisorctl", "start", NAME)  # the first one runs already
    until(f"stage {stage}", partial(logged, running.paths.log(WORKER.name), here, event="stage.begun", stage=stage), 60)
    asked = time.monotonic()
    assert "stopped" in running.fleet_says("supervisorctl", "stop", NAME)
    print(f"stopped in {stage}: {time.monotonic() - asked:.1f} s, the control program's start included")
    assert time.monotonic() - asked < WorkersSettings().stop_wait_seconds
    with supervisor_log.open() as file:
        file.seek(there)
        assert f"stopped: {WORKER.name} (exit status 0)" in file.read()
    assert alive(WORKER) == []
    spool = running.paths.spool(WORKER)
    handed_in = [result.loop for result in read_spool(spool)]
    assert handed_in == list(range(1, len(handed_in) + 1)), "loops go on where the life before ended"
    assert not list(spool.glob(".*"))


def test_a_stopped_worker_goes_on(running: Running) -> None:
    """After all these stops, started again, its next loop is good."""
    handed_in = running.loops(WORKER)
    running.operate("supervisorctl", "start", NAME)
    until("the next loop", lambda: running.loops(WORKER) > handed_in, 90)
    assert running.results(WORKER)[-1].ok
