"""The launcher's walls: what a worker can leave behind, which rights it can gain, and what the kernel refuses it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.net import Lab
from launcher import landlock
from tests.system.launching import Stage
from tests.waiting import until

SURVIVORS = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
end = time.monotonic() + 60
said = os.dup(1)
for number in (1, 2):
    os.dup2(os.open("/dev/null", os.O_WRONLY), number)
def stay():
    os.close(said)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while time.monotonic() < end:
        time.sleep(0.1)
    os._exit(0)
if os.fork() == 0:  # a session of its own, forked twice
    os.setsid()
    if os.fork():
        os._exit(0)
    stay()
for flags in (0x10000000, 0x10000000 | 0x20000000, 0x10000000 | 0x40000000):  # user, with PID, with network namespaces
    if os.fork() == 0:
        libc.unshare(flags)
        if os.fork():
            os._exit(0)
        stay()
if CHAIN and os.fork() == 0:  # always another process
    os.setsid()
    os.close(said)
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        time.sleep(0.001)
    os._exit(0)
if os.fork() == 0:
    os.close(said)
    os.kill(os.getpid(), signal.SIGSTOP)
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
memory, sets = libc.shmget(0, 1 << 20, 0o600 | 0o1000), libc.semget(0, 1, 0o600 | 0o1000)
os.write(said, f"ready {memory >= 0 and sets >= 0}\\n".encode())
"""
ASKED = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(*numbers) == -1 else "ok"
def bind(port):
    with socket.socket() as made:
        try:
            made.bind(("127.0.0.1", port))
        except OSError as error:
            return errno.errorcode[error.errno]
    return "ok"
def abstract(name):
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.connect("\\0" + name)
        except OSError as error:
            return errno.errorcode[error.errno]
    return "ok"
def terminal():
    try:
        return len(os.openpty())
    except OSError as error:
        return "none"
def mount():
    if (child := os.fork()) == 0:
        libc.unshare(0x10000000 | 0x20000)  # user and mount namespaces of its own
        os._exit(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None) and ctypes.get_errno())
    return errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "ok")
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "keyring": call(250, 0, -3, 1), "filesystem": call(430, b"tmpfs", 0), "memory": call(323, 1),
    "tree": call(428, -100, b"/", 1), "mount": mount(),
    "no_new_privs": status["NoNewPrivs"], "bounding": int(status["CapBnd"], 16),
    "mounts": [line.split()[4] for line in open("/proc/self/mountinfo") if "nosuid" not in line.split()[5].split(",")],
    "files": [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
              if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")],
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "own ports": [bind(port) for port in PORTS], "other ports": [bind(port) for port in (8080, 0)],
    "abstract": abstract("fleet-walls-control"), "terminal": terminal(),
}))
"""


def of_ipc(stage: Stage) -> list[str]:
    """System V segments and semaphore sets of the worker's UID in the test's IPC namespace."""
    done = subprocess.run(["ipcs", "-m", "-s"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if stage.worker.name in line.split()]


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


@pytest.fixture
def listener(stage: Stage) -> Iterator[None]:
    """An abstract socket of the host, which every user of its network namespace may connect to."""
    script = (
        "import socket; s = socket.socket(1); s.bind('\\0fleet-walls-control'); s.listen(); print('up', flush=True)"
    )
    script += "; input()"
    command = [sys.executable, "-Ic", script]
    with stage.lab.popen("host", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None and made.stdout.readline() == "up\n"
        yield
        made.communicate("\n")


def as_anybody(stage: Stage, script: str) -> str:
    """The output of SCRIPT under the worker's UID without the launcher."""
    command = ["setpriv", f"--reuid={stage.worker.uid}", "--regid=65534", "--clear-groups", sys.executable, "-I", "-c"]
    return stage.lab.run("host", [*command, script], check=True, timeout=30).stdout


def test_nothing_outlives_a_worker(stage: Stage) -> None:
    """Double forks, sessions, own namespaces, a fork chain, a stopped process, System V memory: all end with it."""
    done = stage.run(stage.python(f"CHAIN = True\n{SURVIVORS}"))
    assert done.returncode == 0 and done.stdout == "ready True\n", done.stderr
    assert stage.processes() == [] and of_ipc(stage) == []


def test_without_its_namespace_they_would_be_there(stage: Stage) -> None:
    """The control: the same program under the same UID, without the launcher, leaves processes and memory behind."""
    as_anybody(stage, f"CHAIN = False\n{SURVIVORS}")  # a sweep never catches a chain
    try:
        assert len(stage.processes()) >= 5 and len(of_ipc(stage)) == 2
    finally:
        assert stage.run(["/bin/true"]).returncode == 0, "the launcher's sweep"
        for line in of_ipc(stage):
            subprocess.run(["ipcrm", "-s" if line.split()[-1] == "1" else "-m", line.split()[1]], check=True)
    assert stage.processes() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_worker_and_its_code_comes_back(stage: Stage, number: signal.Signals) -> None:
    """supervisord's child passes signals on and ends with the worker's own exit code."""
    script = f"import signal\nsignal.signal({int(number)}, lambda *_: os._exit(42))\nprint('ready', flush=True)\n"
    script += "signal.pause()"
    with stage.popen(stage.python(script)) as launched:
        assert launched.stdout is not None and launched.stdout.readline() == "ready\n"
        launched.send_signal(number)
        assert launched.wait(10) == 42


def test_a_worker_killed_by_a_signal_is_seen_as_that(stage: Stage) -> None:
    """supervisord sees the signal that ended the worker, not a code of the launcher's."""
    assert stage.run(stage.python("os.kill(os.getpid(), 6)")).returncode == -signal.SIGABRT


def test_the_launcher_killed_takes_everything_with_it(stage: Stage) -> None:
    """SIGKILL of supervisord's child ends process 1 of the namespace, and so all below it."""
    launched = stage.popen(stage.python("os.fork()\nprint('ready', flush=True)\n__import__('signal').pause()"))
    assert launched.stdout is not None and launched.stdout.readline() == "ready\n"
    assert len(stage.processes()) == 3
    launched.kill()
    launched.wait(10)
    until("all of it is gone", lambda: not stage.processes(), 5)


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fleet.model import Paths
from fleet.operate import lifecycle
lifecycle.sweep(Paths(root=Path(sys.argv[2])), {int(uid) for uid in sys.argv[3:]})
"""


def test_a_worker_about_to_start_is_ended_too(stage: Stage) -> None:
    """A killed supervisord leaves launchers that still run as root: `fleet down` ends those of its workers."""
    spec, lock, uid = stage.spec(["/bin/true"]), stage.paths.worker_lock(stage.worker), stage.worker.uid
    spec = spec.rename(stage.paths.launch_spec(stage.worker))
    sweep = [sys.executable, "-I", "-c", SWEEP, stage.release, str(stage.paths.root)]
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        launched = stage.lab.popen("host", [*stage.launcher, str(spec)])
        fds = Path(f"/proc/{launched.pid}/fd")
        until("it waits for the lock", lambda: lock in [fd.resolve() for fd in fds.iterdir()], 10)
        stage.lab.run("host", [*sweep, str(uid + 1)], check=True)
        assert launched.poll() is None, "another's worker"
        stage.lab.run("host", [*sweep, str(uid)], check=True)
        assert launched.wait(5) == -signal.SIGKILL


def test_what_the_kernel_refuses_a_worker(stage: Stage, listener: object) -> None:
    """No rights, set-UID programs, keyrings, mounts, terminals; no port but its browser's, no socket of the host."""
    found = json.loads(stage.run(stage.python(f"PORTS = {tuple(stage.worker.browser_ports)}\n{ASKED}")).stdout)
    assert (found["no_new_privs"], found["bounding"], found["mounts"]) == ("1", 0, [])
    assert {found[name] for name in ("keyring", "filesystem", "memory", "tree", "mount")} == {"EPERM"}
    assert found["pids"] == [1, 2], "process 1 and the worker"
    assert found["files"] == [], "nothing that root opened, the lock of its UID for example"
    assert found["own ports"] == ["ok", "ok"] and found["terminal"] == "none"
    if landlock.abi() >= 4:
        assert found["other ports"] == ["EACCES", "EACCES"]
    if landlock.abi() >= 6:
        assert found["abstract"] == "EPERM"


def test_an_ordinary_user_is_not_refused(stage: Stage, listener: object) -> None:
    """The control: without the launcher the same attempts give other results."""
    found = json.loads(as_anybody(stage, f"PORTS = (8080,)\n{ASKED}"))
    assert found["no_new_privs"] == "0" and found["bounding"] != 0 and found["mounts"]
    assert found["keyring"] == found["abstract"] == found["mount"] == "ok" and found["other ports"] == ["ok", "ok"]
    assert found["terminal"] == 2


CAPABLE = """
import os, socket, subprocess, sys
script = "import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1); print('marked')"
try:
    done = subprocess.run([sys.argv[-1], "-Ic", script], capture_output=True, text=True)
    print(done.stdout.strip() or done.stderr.strip().splitlines()[-1])
except OSError as error:
    print(error.strerror)
"""


@pytest.fixture
def capable() -> Iterator[Path]:
    """A program on the host whose file grants CAP_NET_RAW: it can send any packet, with any mark."""
    made = Path("/usr/local/lib/fleet-walls-capable")
    shutil.copy("/usr/bin/python3", made)
    subprocess.run(["setcap", "cap_net_raw+ep", str(made)], check=True)
    yield made
    made.unlink()


@pytest.mark.parametrize("user_namespaces", [True, False])
def test_no_file_gives_a_worker_raw_sockets_or_marks(stage: Stage, capable: Path, user_namespaces: bool) -> None:
    """Also if Chrome needs its set-UID helper, so that programs can still gain rights from files."""
    argv = [*stage.python(CAPABLE), str(capable)]
    assert "not permitted" in stage.run(argv, user_namespaces=user_namespaces).stdout
    control = stage.lab.run(
        "host",
        ["setpriv", f"--reuid={stage.worker.uid}", "--clear-groups", *argv],
        check=True,
        env={**os.environ, "RELEASE": "/"},
    )
    assert control.stdout == "marked\n", "the control: without the launcher it does"


def test_chromes_set_uid_helper_has_what_it_needs(stage: Stage) -> None:
    """If ordinary users may not make user namespaces, Chrome renders in the helper's sandbox, and not without it."""
    words = ["--headless=new", "--disable-namespace-sandbox", "--user-data-dir=/tmp/profile", "--dump-dom"]
    argv = [str(stage.installed("selenium").browser), *words, "data:text/html,<p>rendered"]
    assert "<p>rendered" in stage.run(argv, user_namespaces=False).stdout
    assert "<p>rendered" not in stage.run(argv, user_namespaces=True).stdout, "the control: a helper without rights"
