"""FATAL is not the end: what supervisord has given up is started again, slowly, and it is said."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet import given_up
from fleet.model import Paths
from fleet.operate.rearm import Waits
from fleet.programs import Installation
from fleet.supervise import Supervisor
from tests.supervisors import CONFIGURED
from tests.waiting import until

CONFIGURATION = (
    CONFIGURED
    + """environment=FLEET_ROOT="{root}"
[program:flaky]
command=/bin/sh {root}/flaky
startsecs=5
startretries=0
[eventlistener:rearm]
command={listener} --first-seconds 0.1
events=PROCESS_STATE_FATAL,PROCESS_STATE_STOPPED,PROCESS_STATE_STARTING
stderr_logfile={root}/rearm.log
"""
)
FLAKY = 'echo >>"$0.starts"; [ "$(wc -l <"$0.starts")" -lt 3 ] || exec sleep 600; exit 1\n'


def test_a_program_that_was_given_up_runs_again(root: None, tmp_path: Path) -> None:
    """Twice given up, it comes up at its third start; each time is logged, and nobody waits any more in the end."""
    paths = Paths(root=tmp_path)
    installation = Installation(paths=paths)
    for folder in (paths.supervisor_socket.parent, paths.given_up.parent):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "flaky").write_text(FLAKY)
    values = {"socket": paths.supervisor_socket, "root": tmp_path}
    listener = shlex.join(installation.module("fleet.operate.rearm"))
    (tmp_path / "supervisord.conf").write_text(CONFIGURATION.format(**values, listener=listener))
    argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(tmp_path / "supervisord.conf")]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            until("it runs", lambda: state(Supervisor(installation), "flaky") == "RUNNING", 120, lambda: log(tmp_path))
            until("nobody waits", lambda: paths.given_up.exists() and given_up.read(paths.given_up).programs == (), 30)
        finally:
            running.terminate()
    told = [one for one in log(tmp_path) if one["event"] == "program.given_up"]
    # A start that takes supervisord's startsecs, on a machine that stands still, is no start that was given up.
    assert told and [(one["program"], one["times"]) for one in told] == [("flaky", 1), ("flaky", 2)][: len(told)], told
    assert (tmp_path / "flaky.starts").read_text().count("\n") >= 3


def state(supervisor: Supervisor, name: str) -> str:
    """Of a program; "" while supervisord does not answer."""
    if supervisor.pid() is None:
        return ""
    return next((one.state for one in supervisor.states() if one.name == name), "")


def log(root: Path) -> list[dict[str, Any]]:
    """What the listener has logged."""
    path = root / "rearm.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_each_wait_is_longer_up_to_an_hour() -> None:
    """Five minutes, ten, ..., an hour; after a long time without, five minutes again; each program for itself."""
    waits, now, seen = Waits(), 0.0, []
    for _ in range(6):
        waits.heard("worker:w1101", now)
        waits.heard("worker:w1101", now)
        seconds = waits.seconds(now)
        assert seconds and waits.due(now + seconds - 1) == []
        seen.append(seconds)
        now += seconds
        assert waits.due(now) == ["worker:w1101"] and waits.seconds(now) is None
    assert seen == [300, 600, 1200, 2400, 3600, 3600]
    waits.heard("worker:w1102", now)
    assert waits.seconds(now) == 300
    waits.heard("worker:w1101", now + 3 * 3600)
    assert waits.waiting["worker:w1101"] == now + 3 * 3600 + 300


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    """A file that is not there, or holds something else, costs the page nothing."""
    path = tmp_path / "given-up.json"
    assert given_up.read(path) == given_up.All()
    for text in ("", "{", '{"programs": 1}', "[" * 100_000):
        path.write_text(text)
        assert given_up.read(path) == given_up.All()
