"""What root does for the hub's page: two requests about one worker each, by the real supervisord, and nothing else."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet import given_up, snapshot
from fleet.errors import NotAllowed, ProtocolError, RateLimited, TryLater, UsageError
from fleet.machine import lockfile
from fleet.model import HUB_ACCOUNT, Fleet, Paths
from fleet.operate import accounts, folders
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from fleet.sockets import acts_api
from fleet.sockets.acts_api import Start, Stop
from fleet.sockets.client import Client
from fleet.sockets.wire import Done, Request
from fleet.supervise import Supervisor
from lab import run
from tests.hubs import FLEET
from tests.supervisors import CONFIGURED
from tests.waiting import until

WEB = {"port": 8470, "token_file": "/x", "acts": ["stop", "start"]}
WHOLE = Fleet.model_validate(
    {**FLEET.model_dump(), "workers": {"count": 3, "first_uid": 1291}, "hub": {"jobs": "first", "web": WEB}}
)
STEADY, FLAKY, SLOW = (worker.name for worker in WHOLE.members)
CONFIGURATION = (
    CONFIGURED
    + """environment=FLEET_ROOT="{root}",FLEET_ERRORS="json"
[eventlistener:rearm]
command={rearm} --first-seconds 3
events=PROCESS_STATE_FATAL,PROCESS_STATE_STOPPED,PROCESS_STATE_STARTING
stderr_logfile={root}/rearm.log
[program:acts]
command={acts}
redirect_stderr=true
stdout_logfile={root}/acts.log
[group:worker]
programs={steady},{flaky},{slow}
[program:{steady}]
command=/bin/sleep 600
startsecs=0
[program:{flaky}]
command=/bin/sh -c "sleep 0.5; exit 1"
startsecs=1
startretries=0
[program:{slow}]
command=/usr/bin/env --ignore-signal=TERM sleep 600
startsecs=0
autorestart=false
stopwaitsecs=60
"""
)


class Other(Request):
    """A request that is in no table."""

    method = "shutdown"


@dataclass(frozen=True)
class Scene:
    """A supervisord with three workers, and the program in front of it."""

    paths: Paths
    supervisor: Supervisor

    def state(self, worker: str) -> str:
        """The state of WORKER as supervisord names it."""
        return next(one.state for one in self.supervisor.states() if one.name == f"worker:{worker}")

    def kill(self, worker: str) -> None:
        """Send SIGKILL to a WORKER that does not end otherwise."""
        for one in self.supervisor.states():
            if one.name == f"worker:{worker}" and one.pid:
                os.kill(one.pid, signal.SIGKILL)

    def away(self) -> given_up.All:
        """The programs that do not run, as the page reads them."""
        return given_up.read(self.paths.given_up)

    def log(self) -> str:
        """What was logged for the page."""
        return (self.paths.root / "acts.log").read_text()

    def done(self) -> list[tuple[str, str]]:
        """The acts in it."""
        lines = [json.loads(text) for text in self.log().splitlines() if '"act.done"' in text]
        return [(line["what"], line["worker"]) for line in lines]


@pytest.fixture(scope="module")
def scene(root: None) -> Iterator[Scene]:
    """All of it, in folders as `fleet up` makes them."""
    with tempfile.TemporaryDirectory(prefix="fleet-acts-") as name:
        Path(name).chmod(0o755)
        yield from running(Paths(root=Path(name)))


def running(paths: Paths) -> Iterator[Scene]:
    """A supervisord below PATHS."""
    python, _, launch, *_ = run.program("")
    installation = Installation(paths=paths, python=Path(python), release=Path(launch).parent)
    accounts.ensure(WHOLE)
    for folder in folders.wanted(WHOLE, paths):
        folders.make(folder)
    snapshot.write(Snapshot(release=installation.release, fleet=WHOLE), paths)
    commands = {"rearm": shlex.join(installation.rearm()), "acts": shlex.join(installation.acts())}
    workers = {"steady": STEADY, "flaky": FLAKY, "slow": SLOW}
    text = CONFIGURATION.format(socket=paths.supervisor_socket, root=paths.root, **commands, **workers)
    paths.supervisor_config.write_text(text)
    made = Scene(paths, Supervisor(installation))
    argv = [sys.executable, "-m", "supervisor.supervisord", "-c", str(paths.supervisor_config)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as supervisord:
        try:
            until("it answers", paths.acts_socket.exists, 60, lambda: made.supervisor.pid() and made.log())
            yield made
        finally:
            made.kill(SLOW)
            supervisord.terminate()


@contextmanager
def identity(user: str, group: str) -> Iterator[None]:
    """This process is USER's, as the kernel sees it, with GROUP beside its own."""
    found, groups = pwd.getpwnam(user), os.getgroups()
    os.setgroups([grp.getgrnam(group).gr_gid])
    os.setegid(found.pw_gid)
    os.seteuid(found.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def ask(scene: Scene, request: Request, user: str = HUB_ACCOUNT, group: str = HUB_ACCOUNT) -> None:
    """REQUEST of USER, once its turn has come; raises what it is answered."""
    until("its turn", lambda: _asked(scene, request, user, group), 120)


def _asked(scene: Scene, request: Request, user: str, group: str) -> bool:
    client = Client(scene.paths.acts_socket, timeout_seconds=30)
    with identity(user, group):
        client.open()
    with client, contextlib.suppress(RateLimited):
        client.ask(request, Done)
        return True
    return False


def test_what_the_table_holds() -> None:
    """Two requests, of the hub alone, each with the name of a worker and nothing else, at a bounded rate."""
    assert {*acts_api.TABLE.rows} == {"stop", "start"}
    for row in acts_api.TABLE.rows.values():
        assert [one.name for one in row.callers] == ["HUB"] and row.rate == acts_api.ACTS
        assert [*row.request.model_fields] == ["worker"]
    assert acts_api.RATE.per_second <= 1 and acts_api.RATE.burst <= 20


def test_a_worker_is_stopped_and_started(scene: Scene) -> None:
    """It ends and stays down, then starts again; the page knows both. Repeating is harmless; each act is logged."""
    until("it runs", lambda: scene.state(STEADY) == "RUNNING", 60)
    for _ in range(2):
        ask(scene, Stop(worker=STEADY))
    until("it has ended", lambda: scene.state(STEADY) == "STOPPED", 30)
    until("it is known as stopped", lambda: f"worker:{STEADY}" in scene.away().stopped, 30, scene.away)
    for _ in range(2):
        ask(scene, Start(worker=STEADY))
    until("it runs again", lambda: scene.state(STEADY) == "RUNNING", 30)
    until("it is known as running", lambda: f"worker:{STEADY}" not in scene.away().stopped, 30, scene.away)
    wanted = [("stop", STEADY)] * 2 + [("start", STEADY)] * 2
    until("it is logged", lambda: [one for one in scene.done() if one[1] == STEADY] == wanted, 30, scene.log)


def test_one_that_was_given_up_stays_away(scene: Scene) -> None:
    """A worker that supervisord has given up, and that is stopped on the page, is not restarted automatically."""
    starts = (scene.paths.root / "supervisord.log").read_text
    until("it was given up", lambda: scene.state(FLAKY) == "FATAL" and scene.away().programs, 240)
    ask(scene, Stop(worker=FLAKY))
    until("it is stopped", lambda: scene.state(FLAKY) == "STOPPED", 30)
    spawned = starts().count(f"spawned: '{FLAKY}'")
    until("its time is over", lambda: scene.away().programs == (), 240)
    assert scene.state(FLAKY) == "STOPPED" and starts().count(f"spawned: '{FLAKY}'") == spawned


def test_what_cannot_be_done_now_is_said(scene: Scene) -> None:
    """An act is refused while a worker ends, and while an operator's command starts workers."""
    until("it runs", lambda: scene.state(SLOW) == "RUNNING", 60)
    with lockfile.held(lockfile.opened(scene.paths.operator_lock), lambda _: AssertionError()):
        with pytest.raises(TryLater, match="another fleet command"):
            ask(scene, Stop(worker=SLOW))
        assert scene.state(SLOW) == "RUNNING"
    ask(scene, Stop(worker=SLOW))
    assert scene.state(SLOW) == "STOPPING"
    with pytest.raises(TryLater, match="still stopping"):
        ask(scene, Start(worker=SLOW))
    scene.kill(SLOW)
    until("it has ended", lambda: scene.state(SLOW) == "STOPPED", 30)


def test_nobody_else_is_heard_and_nothing_else_done(scene: Scene) -> None:
    """Root, workers and strangers are refused, and so are other programs and requests. The hub is served (control)."""
    for user in ("root", STEADY, "nobody", "netctl"):
        with pytest.raises(NotAllowed, match="acts serves the hub"):
            ask(scene, Stop(worker=STEADY), user)
    # Without the hub's group not even the socket is there.
    with pytest.raises(NotAllowed, match="may not open it"):
        ask(scene, Stop(worker=STEADY), "nobody", "nogroup")
    for name in ("acts", f"worker:{STEADY}", "worker:*"):
        with pytest.raises(UsageError, match="no worker"):
            ask(scene, Stop(worker=name))
    with pytest.raises(ProtocolError, match="no method"):
        ask(scene, Other())
    assert scene.state(STEADY) == "RUNNING"


def test_it_has_roots_name_and_no_right(scene: Scene) -> None:
    """It owns supervisord's socket, and has no capability and cannot gain one."""
    (pid,) = [one.pid for one in scene.supervisor.states() if one.name == "acts"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert {name for name, value in status.items() if name.startswith("Cap") and int(value[0], 16)} == set()
    assert status["NoNewPrivs"] == ["1"]


def test_the_hub_is_slowed_down(scene: Scene) -> None:
    """After a burst all its requests are refused."""

    def refused() -> bool:
        with contextlib.suppress(UsageError):
            return not _asked(scene, Stop(worker="w9999"), HUB_ACCOUNT, HUB_ACCOUNT)
        return False

    assert any(refused() for _ in range(3 * acts_api.RATE.burst))
