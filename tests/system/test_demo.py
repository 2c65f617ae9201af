"""bin/demo as a user runs it: the promise, its control, and every way to stop it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tenacity

from lab.net import Lab
from lab.run import program

FIRST_UID = 1201
"""Not the reference UIDs: a demo of somebody else on this machine goes on."""
TRIES = 3

Traces = Callable[[str], list[str]]


@pytest.fixture
def name(root: None) -> Iterator[str]:
    """A lab name that only this test uses; the lab is removed afterwards."""
    made = f"d{os.getpid() % 10_000}"
    yield made
    Lab(made).down()


def command(name: str, folder: Path, *words: str) -> list[str]:
    """The demo in the lab NAME, its report in FOLDER."""
    return program("demo", "--lab", name, "--report", str(folder), "--first-uid", str(FIRST_UID), *words)


def demo(name: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    return subprocess.run(command(name, folder, *words), capture_output=True, text=True, timeout=600, check=False)


def report(folder: Path) -> dict[str, Any]:
    """The report that the demo wrote."""
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return document


def left_running() -> list[str]:
    """Processes of the workers' UIDs, and their supervisord."""
    uids = range(FIRST_UID, FIRST_UID + 8)
    return [f"{one.pid} {one.name()}" for one in psutil.process_iter(["uids"]) if one.info["uids"].real in uids]


def test_eight_workers_lose_nothing(name: str, tmp_path: Path, traces: Traces) -> None:
    """16 of 16 loops good, nothing lost to -21, no address event, each page seen from its leased exit."""
    done = demo(name, tmp_path, "--workers", "8", "--loops", "2")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = report(tmp_path)
    assert (found["workers"], found["loops"], len(found["runs"])) == (8, 2, 16)
    assert (found["network_changed"], found["address_events"], found["failures"]) == (0, 0, 0)
    assert found["requests"] > 16 * 80
    for run in found["runs"]:
        assert run["ok"]
        assert run["seen_address"] == run["exit"]
        assert (tmp_path / run["screenshot"]).read_bytes().startswith(b"\x89PNG")
    for worker in {run["worker"] for run in found["runs"]}:
        exits = [run["exit"] for run in found["runs"] if run["worker"] == worker]
        assert all(one != other for one, other in itertools.pairwise(exits)), "an exit twice in a row"
    print(done.stdout)
    assert traces(name) == []
    assert left_running() == []


def test_todays_habit_loses_requests(name: str, tmp_path: Path) -> None:
    """The same browsers, lab and site, while interfaces come and go: now requests are lost to -21.

    Sometimes no request is in progress when an interface appears, so the test may try again.
    """
    for _ in range(TRIES):
        done = demo(name, tmp_path, "--workers", "5", "--loops", "2", "--control", "habit")
        found = report(tmp_path)
        if found["network_changed"]:
            break
    assert found["network_changed"] > 0, done.stdout
    assert found["address_events"] > 0
    assert done.returncode == 1
    print(done.stdout)


def reached(name: str, stage: str) -> bool:
    """Whether the demo in the lab NAME has reached STAGE."""
    places = Lab(name).places
    if stage == "lab":
        return places.record.exists()
    if stage == "fleet":
        return (places.fleet_root / "run/fleet/supervisord.conf").exists()
    return any('"load"' in path.read_text() for path in places.fleet_root.glob("var/log/fleet/w1*.log"))


@pytest.mark.parametrize(
    ("stage", "ending"), [("lab", signal.SIGINT), ("fleet", signal.SIGTERM), ("browsers", signal.SIGINT)]
)
def test_a_signal_at_any_moment_leaves_nothing(
    name: str, tmp_path: Path, traces: Traces, stage: str, ending: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM while the lab or the fleet starts, or browsers load: all is removed, the exit code shows it.

    One handler takes both signals (tests/unit/test_fleet_interrupts.py), so each stage is tested with one of them.
    """
    with subprocess.Popen(
        command(name, tmp_path, "--workers", "2", "--loops", "5"), stderr=subprocess.PIPE, text=True
    ) as running:
        wait = tenacity.retry(stop=tenacity.stop_after_delay(90), wait=tenacity.wait_fixed(0.05), reraise=True)

        @wait
        def far_enough() -> None:
            assert running.poll() is None, f"it ended by itself: {running.communicate()[1]}"
            assert reached(name, stage), f"not at {stage} yet"

        far_enough()
        running.send_signal(ending)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 128 + ending, said
    assert "nothing is left running" in said
    assert traces(name) == []
    assert left_running() == []


def test_a_second_start_is_told_and_a_killed_one_is_cleaned_up(name: str, tmp_path: Path, traces: Traces) -> None:
    """While one demo runs, another exits with 75 and changes nothing; after SIGKILL the next one works."""
    with subprocess.Popen(command(name, tmp_path, "--workers", "1"), stderr=subprocess.DEVNULL) as first:
        wait = tenacity.retry(stop=tenacity.stop_after_delay(90), wait=tenacity.wait_fixed(0.05), reraise=True)

        @wait
        def busy() -> None:
            assert reached(name, "fleet"), "the first one has not come far enough"

        busy()
        second = demo(name, tmp_path / "second", "--workers", "1")
        assert second.returncode == 75, second.stderr
        assert f"process {first.pid} holds" in second.stderr
        assert first.poll() is None
        first.kill()
    third = demo(name, tmp_path / "third", "--workers", "1", "--loops", "1")
    assert third.returncode == 0, third.stdout + third.stderr[-4000:]
    assert traces(name) == []
    assert left_running() == []
