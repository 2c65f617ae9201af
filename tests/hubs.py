"""A running hub without a fleet: this process acts as its workers under their UIDs, for which it needs root."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fleet import snapshot
from fleet.db import Database
from fleet.model import Fleet, Paths, Worker
from fleet.programs import Installation
from fleet.result import Result, of_job
from fleet.snapshot import Snapshot
from fleet.sockets.client import Client
from fleet.sockets.hub_api import Finish, Ring, Take, Taken, Work
from fleet.sockets.wire import Done
from hub.queue import reading
from hub.queue.store import Store
from hub.queue.upgrade import upgrade
from hub.queue.values import Added, Job, Pace
from tests.waiting import until

FLEET = Fleet.model_validate(
    {
        "workers": {"count": 64, "first_uid": 1301},
        "dns": {"resolvers": ["198.18.0.53"]},
        "egress": {"urls": ["https://a.example/ip"]},
        "task": {"run": "json:dumps"},
        "loop": {"attempts": 1, "pause_seconds": 600},
        "hub": {"jobs": "first"},
    }
)


def laid_out(paths: Paths, fleet: Fleet) -> Database:
    """Make a hub's folders, its snapshot and its empty queue; returns the database."""
    for path in (paths.hub_socket, paths.snapshot, paths.hub_database):
        path.parent.mkdir(parents=True, exist_ok=True)
    snapshot.write(Snapshot(release=Installation(paths=paths).release, fleet=fleet), paths)
    database = Database(FLEET.hub.address(paths))
    upgrade(database)
    return database


def started(paths: Paths, answers: Callable[[], object], prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start a hub, its command line after PREFIX, and wait until ANSWERS is true."""
    installation, path = Installation(paths=paths), paths.root / "hub.log"
    argv, environment = [*prefix, *installation.module("hub", "serve")], installation.environment
    with path.open("ab") as log:
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until("the hub serves", answers, 30, lambda: path.read_text()[-2000:])
    except BaseException:
        process.kill()
        raise
    return process


class Scene:
    """A hub, its queue, and the spools of its workers."""

    def __init__(self, root: Path, fleet: Fleet = FLEET) -> None:
        self.paths = Paths(root=root)
        self.installation = Installation(paths=self.paths)
        self.database = laid_out(self.paths, fleet)
        for worker in FLEET.members:
            self.paths.spool(worker).mkdir(parents=True)
            for folder in (self.paths.home(worker), self.paths.spool(worker)):
                os.chown(folder, worker.uid, worker.uid)
        self.store = Store(self.database, lambda: None, Pace(interval_seconds=0, most=100))
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []

    def start(self) -> None:
        """Start the hub, and wait until it answers."""
        self.process = started(self.paths, self.rings, self.prefix)
        self.paths.hub_socket.chmod(0o666)  # no worker here is of the fleet's group

    def rings(self) -> bool:
        """Tell the hub to look at the queue; whether it answers."""
        try:
            with Client(self.paths.hub_socket, timeout_seconds=10) as client:
                client.ask(Ring(), Done)
            return True
        except Exception:  # noqa: BLE001 - not there yet
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End it by SIGTERM; it must exit with 0. Close the database."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(20) == 0
        self.database.close()

    def add(self, *keys: str, **more: Any) -> list[int]:
        """Add jobs and ring."""
        receipts = self.store.add([Job(site="a.example", task="visit", key=key, **more) for key in keys])
        assert {one.added for one in receipts} == {Added.NEW}
        assert self.rings()
        return [one.job for one in receipts]

    def runs(self, job: int) -> list[tuple[Any, Any]]:
        """The outcome and the worker of each of its runs."""
        return [(run["outcome"], run["worker"]) for run in reading.runs_of(self.database, job)]

    def hand_in(self, by: Worker, work: Work, picture: bytes = b"\x89PNG", **more: Any) -> None:
        """Write a good result of WORK with its picture into the spool of BY, with MORE fields."""
        run, loop = of_job(work.job, work.fence)
        now = datetime.now(timezone.utc)
        name = f"{run}-{loop:06d}.png"
        fields = {"run": run, "worker": by.name, "loop": loop, "ok": True, "outcome": "good", "claim": work.claim}
        fields |= {"started": now, "finished": now, "attempts": 1, "stages_ms": {"load": 7}, "screenshot": name}
        content = Result.model_validate({**fields, "answer": {"price": 3}, **more}).model_dump_json()
        self.write(by, name, picture)
        self.write(by, f"{run}-{loop:06d}.json", content.encode())

    def write(self, worker: Worker, name: str, content: bytes) -> None:
        """Write a file into WORKER's spool, owned by WORKER."""
        path = self.paths.spool(worker) / name
        path.write_bytes(content)
        os.chown(path, worker.uid, worker.uid)


@contextmanager
def client(scene: Scene, uid: int) -> Iterator[Client]:
    """A connection of UID: the kernel records the effective UID at the moment of connecting."""
    made = Client(scene.paths.hub_socket, timeout_seconds=30)
    os.seteuid(uid)
    try:
        made.open()
    finally:
        os.seteuid(0)
    with made:
        yield made


@contextmanager
def running(fleet: Fleet = FLEET, *, disk: str = "") -> Iterator[Scene]:
    """A serving hub; with DISK, its state has a tmpfs of that size."""
    with tempfile.TemporaryDirectory(prefix="fleet-hub-") as name:
        Path(name).chmod(0o755)
        state = Paths(root=Path(name)).state
        if disk:
            state.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk},mode=755", "tmpfs", str(state)], check=True)
        made = Scene(Path(name), fleet)
        made.start()
        try:
            yield made
        finally:
            made.stop()
            if disk:
                subprocess.run(["umount", str(state)], check=True)


def take(one: Client, seconds: float = 20) -> Work:
    """Ask for a job and return it; one must come within SECONDS."""
    work = one.ask(Take(seconds=seconds), Taken).work
    assert work
    return work


def finish(one: Client, work: Work) -> None:
    """Report the end of WORK."""
    one.ask(Finish(job=work.job, fence=work.fence), Done)
