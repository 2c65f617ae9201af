"""The fault table, netctl's own footing: its disk, its leases, its clock, its lock. In doubt no key is handed out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from fleet.errors import ExitCode
from tests.faults import judge
from tests.faults.judge import BACK_SECONDS, UNHURT_SECONDS
from tests.faults.scene import COOLDOWN_SECONDS, Scene
from tests.fleets import at
from tests.room import fill
from tests.waiting import until

HOUR_SECONDS = 3600
FULL = "netctl's disk full"
FULL_AT_START = "netctl killed while its disk is full"
DAMAGED_AT_START = "lease file damaged, found at start"
DAMAGED_UNDER_US = "lease file damaged under netctl"
STEPPED = {1: "wall clock an hour forward", -1: "wall clock an hour back"}
TWO = "two netctl at once"
NAMES = (FULL, FULL_AT_START, DAMAGED_AT_START, DAMAGED_UNDER_US, *STEPPED.values(), TWO)
"""The lines of the table; docs/security.md has the same."""


def test_a_full_disk_hands_out_no_key(scene: Scene) -> None:
    """Not a byte is free: who asks for a key is refused by name, the neighbour works on; space, and all is well."""
    begin, pid = time.monotonic(), scene.pid()
    with full_disk(scene):
        refused = refused_key(scene)
        judge.passed(2)
    ended = time.monotonic()
    assert refused["refused"] == "KeyStoreFailed" and "full" in refused["message"], refused
    back = judge.back_after(scene, [0], ended)
    seen = judge.judged(scene, FULL, begin, time.monotonic(), back)
    assert back is not None and back <= BACK_SECONDS, scene.picture()
    assert seen.neighbour < UNHURT_SECONDS, "the neighbour stopped"
    assert scene.pid() == pid, "netctl did not survive it"
    one_key_each(scene)


def test_a_full_disk_keeps_no_tunnel_from_being_adopted(scene: Scene) -> None:
    """netctl is killed and its disk full: tunnels in use go on, and are its successor's as soon as there is space."""
    begin = time.monotonic()
    with full_disk(scene):
        os.kill(scene.pid(), signal.SIGKILL)
        judge.passed(4)
    back = judge.back_after(scene, [0, 1], time.monotonic())
    seen = judge.judged(scene, FULL_AT_START, begin, time.monotonic(), back)
    assert back is not None and back <= BACK_SECONDS, scene.picture()
    assert max(seen.gap, seen.neighbour) < UNHURT_SECONDS, "a tunnel in use stopped"
    one_key_each(scene)


def test_a_damaged_store_starts_no_netctl(scene: Scene) -> None:
    """Found damaged at start: exit 78 with the file's name; tunnels in use go on; mended, they are taken over."""
    began, begin = datetime.now(timezone.utc), time.monotonic()
    scene.supervisorctl("stop")
    log = scene.paths.log("supervisord")
    said = len(log.read_text())
    with damaged(scene):
        scene.supervisorctl("start")
        # One that ends so soon is started again and again, ever more rarely; each time it refuses.
        words = f"exited: netctl (exit status {int(ExitCode.CONFIGURATION)};"
        until("netctl refuses", lambda: words in log.read_text()[said:], 20, lambda: log.read_text()[said:])
        assert str(scene.paths.key_store) in scene.paths.log("netctl").read_text()[-3000:]
        assert not [line for line in scene.logged("slot.connected") if at(line) > began], "a key was handed out"
        judge.passed(1)
        scene.supervisorctl("stop")
    mended = time.monotonic()
    scene.supervisorctl("start")
    back = judge.back_after(scene, [0, 1], mended)
    seen = judge.judged(scene, DAMAGED_AT_START, begin, time.monotonic(), back)
    assert back is not None and back <= BACK_SECONDS, scene.picture()
    assert max(seen.gap, seen.neighbour) < UNHURT_SECONDS, "a tunnel in use stopped"
    one_key_each(scene)


def test_a_store_damaged_under_netctl_hands_out_no_key(scene: Scene) -> None:
    """Damaged while in use: who asks for a key is refused by name, who has one works on; mended, all is well."""
    begin = time.monotonic()
    with damaged(scene):
        refused = refused_key(scene)
        scene.supervisorctl("stop")
    mended = time.monotonic()
    scene.supervisorctl("start")
    back = judge.back_after(scene, [0, 1], mended)
    seen = judge.judged(scene, DAMAGED_UNDER_US, begin, time.monotonic(), back)
    assert refused["refused"] == "KeyStoreFailed", refused
    assert str(scene.paths.key_store) in refused["message"]
    assert back is not None and back <= BACK_SECONDS, scene.picture()
    assert seen.neighbour < UNHURT_SECONDS, "the neighbour stopped"
    one_key_each(scene)


@pytest.mark.parametrize("hours", STEPPED, ids=str)
def test_the_wall_clock_stepped_by_an_hour_moves_no_rest(scene: Scene, hours: int) -> None:
    """With one key more than workers, each rotation waits for a key that rests: no longer and no shorter than ever."""
    begin = time.monotonic()
    with few_keys(scene):
        until("the pool is small", lambda: (status := scene.asked()) and status.pool and status.pool.keys == 3, 10)
        try:
            scene.clock.write_text(str(hours * HOUR_SECONDS))
            backs = []
            for _ in range(3):
                backs.append(rotated(scene))
            back = judge.back_after(scene, [0], time.monotonic())
        finally:
            scene.clock.write_text("0")
        seen = judge.judged(scene, STEPPED[hours], begin, time.monotonic(), back)
    assert max(backs) <= BACK_SECONDS, backs
    # Two keys for the three rotations: one of them at least has to wait until the other has rested.
    assert max(backs) > 0.5 * COOLDOWN_SECONDS, backs
    assert seen.neighbour < UNHURT_SECONDS, "the neighbour stopped"


def test_the_second_netctl_disturbs_nobody(scene: Scene) -> None:
    """Two at once: the second says which process holds the lock and ends with 78; no stream notices."""
    begin, pid = time.monotonic(), scene.pid()
    done = scene.within(scene.installation.netctl("serve"), check=False)
    assert done.returncode == ExitCode.CONFIGURATION
    assert f"process {pid} holds" in done.stderr
    back = judge.back_after(scene, [0, 1], time.monotonic())
    seen = judge.judged(scene, TWO, begin, time.monotonic(), back)
    assert scene.pid() == pid
    assert back is not None
    assert max(seen.gap, seen.neighbour) < UNHURT_SECONDS


# --- causes and looks


@contextlib.contextmanager
def full_disk(scene: Scene) -> Iterator[None]:
    """Not a byte of netctl's own small file system is free."""
    filler = scene.state / "filler"
    fill(filler)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def damaged(scene: Scene) -> Iterator[None]:
    """The key store is overwritten behind its header; an operator puts a copy back, with netctl stopped."""
    store = scene.state / scene.paths.key_store.name
    copy = store.with_name("copy")
    # Inside: SQLite resolves links, also that of another mount namespace.
    words = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', sys.argv[2:])"
    store_inside = scene.paths.key_store
    scene.within([sys.executable, "-I", "-c", words, str(store_inside), str(store_inside.with_name("copy"))])
    with store.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * (store.stat().st_size - 100))
    try:
        yield
    finally:
        until("netctl is stopped", lambda: not scene.running("netctl").pid, 20)
        owner = store.stat()
        for suffix in ("-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        copy.replace(store)
        shutil.chown(store, owner.st_uid, owner.st_gid)
        store.chmod(0o600)


@contextlib.contextmanager
def few_keys(scene: Scene) -> Iterator[None]:
    """One key more than there are workers."""
    listed = json.loads(scene.within(scene.installation.module("netctl", "keys", "list", "--json")).stdout)
    free = [key["public_key"] for key in listed if not key["leased_to"]]
    scene.within(scene.installation.module("netctl", "keys", "remove", *free[1:]))
    try:
        yield
    finally:
        scene.bring_keys()


def refused_key(scene: Scene) -> dict[str, str]:
    """What the worker concerned hears when it asks for another exit."""
    asked, stream = time.monotonic(), scene.streams[0]
    stream.rotate()

    def heard() -> dict[str, str] | None:
        return next((one for one in stream.refusals if one["asked"] >= asked), None) or (
            {"refused": "nothing: it got a key"} if answered_after(scene, asked) else None
        )

    found = until("an answer", heard, 30)
    assert found
    return found


def rotated(scene: Scene) -> float:
    """Seconds until the worker concerned has another exit."""
    asked = time.monotonic()
    scene.streams[0].rotate()
    answered = until("another lease", lambda: answered_after(scene, asked), 30)
    assert answered
    return answered - asked


def answered_after(scene: Scene, moment: float) -> float | None:
    """When the worker concerned got a lease that it asked for behind MOMENT."""
    return next((held.answered for held in scene.streams[0].leases if held.asked >= moment), None)


def one_key_each(scene: Scene) -> None:
    """No two devices have one key."""
    names = [worker.interface for worker in scene.fleet.members]
    seen = [scene.within(["wg", "show", name, "public-key"]).stdout for name in names]
    assert len(set(seen)) == len(seen)
