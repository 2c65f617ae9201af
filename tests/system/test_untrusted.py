"""What a hijacked browser can reach: no file of another worker and no key, few writable places, limits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from lab.net import Lab
from tests.fleets import Rig
from tests.system.launching import Stage

WALK = """
import json, os, sys
def walk(folder):
    try: entries = list(os.scandir(folder))
    except OSError: return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False): yield from walk(entry.path)
        elif entry.is_file(follow_symlinks=False):
            try: os.close(os.open(entry.path, os.O_RDONLY))
            except OSError: continue
            yield entry.path
print(json.dumps(sorted(walk(sys.argv[1]))))
"""
WRITE = """
import json, os, sys
def write(folder):
    path = os.path.join(folder, "fleet-test")
    try: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error: return type(error).__name__ if error.errno != 30 else "read-only"
    os.unlink(path)
    return "written"
print(json.dumps({folder: write(folder) for folder in sys.argv[1:]}))
"""
GREED = """
import json, os, sys, threading
def grow(mebibytes):
    try:
        with open("/tmp/large", "wb") as file: file.truncate(mebibytes << 20)
    except OSError as error: return type(error).__name__
    return "written"
def start(number):
    gate, made = threading.Event(), []
    try:
        for _ in range(number):
            made.append(threading.Thread(target=gate.wait))
            made[-1].start()
        return "started"
    except RuntimeError as error: return str(error)
    finally:
        gate.set()
        for one in made: one.ident and one.join()
print(json.dumps([grow(100), grow(60), start(400), start(40)]))
"""


@pytest.fixture(scope="module")
def rig(bare: Lab) -> Iterator[Rig]:
    """Two workers' folders, and a store with keys; nothing runs. The lab has no files of other tests."""
    made = Rig(bare, 2)
    yield made
    made.stop()


@pytest.fixture
def stage(rig: Rig) -> Stage:
    """The first of the two."""
    return Stage(rig.lab, rig)


def as_worker(stage: Stage, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the Python program TEXT under the worker's UID in the lab's host, without the launcher."""
    words = ["setpriv", f"--reuid={stage.worker.uid}", "--regid=fleet", "--clear-groups"]
    return stage.lab.run("host", [*words, "/usr/bin/python3", "-Ic", text, *arguments], timeout=60, cwd="/", check=True)


def test_no_file_of_another_worker_or_of_the_keys(stage: Stage, rig: Rig) -> None:
    """A worker that searches every folder of the fleet can read its own files, and those meant for all.

    The controls: root reads the others' in the same way, and so does the worker once their folder's mode is wrong.
    """
    neighbour = stage.paths.home(rig.worker(1)) / "letter"
    neighbour.write_text("mine")
    log = stage.paths.log("worker-w1102")
    log.write_text("https://shop.example/")
    stage.paths.config.chmod(0o600)  # which the operator may: the worker reads the snapshot
    secrets = {str(stage.paths.key_store), str(neighbour), str(log)}
    root = str(stage.paths.root)
    assert secrets <= set(json.loads(stage.lab.run("host", ["/usr/bin/python3", "-Ic", WALK, root], check=True).stdout))
    found = json.loads(stage.run(["/usr/bin/python3", "-Ic", WALK, root]).stdout)
    home = str(stage.paths.home(stage.worker))
    shared = (str(stage.paths.snapshot), str(stage.scripts), home)
    assert str(stage.paths.snapshot) in found
    assert [path for path in found if not path.startswith(shared) and path != f"{root}/netctl.log"] == []
    neighbour.parent.chmod(0o755)
    try:
        assert str(neighbour) in json.loads(stage.run(["/usr/bin/python3", "-Ic", WALK, root]).stdout)
    finally:
        neighbour.parent.chmod(0o700)
        neighbour.unlink()
        log.unlink()


def test_little_to_write_to(stage: Stage) -> None:
    """A worker writes to its home and to its own /tmp and /dev/shm; /var/tmp, open to all elsewhere, is read-only."""
    own = ["/tmp", "/dev/shm", str(stage.paths.home(stage.worker))]
    places = ["/var/tmp", "/run", "/etc", "/", *own]
    seen = json.loads(stage.run(["/usr/bin/python3", "-Ic", WRITE, *places]).stdout)
    assert seen == {**dict.fromkeys(places, "read-only"), **dict.fromkeys(own, "written")}
    assert json.loads(as_worker(stage, WRITE, "/var/tmp").stdout) == {"/var/tmp": "written"}


def test_every_mount_is_read_only_but_a_few(stage: Stage) -> None:
    """Whatever mounts the host has, no other mount of the worker is writable."""
    mounts = [line.split() for line in stage.run(["/bin/cat", "/proc/self/mounts"]).stdout.splitlines()]
    writable = {words[1] for words in mounts if "rw" in words[3].split(",")}
    home = str(stage.paths.home(stage.worker))
    assert {"/tmp", "/dev/shm", home} <= writable <= {"/proc", "/tmp", "/dev/shm", home}


def test_limits_of_files_and_processes(stage: Stage) -> None:
    """A file stops growing, and threads stop starting, at the limits of the settings, and not before."""
    greedy = ["/usr/bin/python3", "-Ic", GREED]
    held = json.loads(stage.run(greedy, file_mebibytes=64, processes=256).stdout)
    assert held == ["OSError", "written", "can't start new thread", "started"]
    assert json.loads(stage.run(greedy).stdout) == ["written", "written", "started", "started"]


def test_a_temporary_folder_has_a_size(stage: Stage) -> None:
    """What a worker writes to its /tmp and /dev/shm takes memory, so it is bounded."""
    script = "import os, json; print(json.dumps([os.statvfs(p).f_blocks * 4096 >> 20 for p in ('/tmp', '/dev/shm')]))"
    assert json.loads(stage.run(["/usr/bin/python3", "-Ic", script], tmp_mebibytes=64).stdout) == [64, 64]
