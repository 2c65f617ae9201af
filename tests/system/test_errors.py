"""Common mistakes of users: each gives one clear message with what to do and its exit code, and loses nothing.

Every case runs the operator's own command inside the lab's host and reads its output.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import ExitCode
from fleet.result import Result
from fleet.spool import read_spool
from lab import run
from lab.net import Lab
from lab.run import Changes
from tests.fleets import Host
from tests.inside import forget

FIRST_UID = 1241
Attempt = Callable[..., subprocess.CompletedProcess[str]]
Traces = Callable[[str], list[str]]


@pytest.fixture
def own_lab(bare: Lab) -> Iterator[Lab]:
    """A lab whose host has never had a fleet."""
    yield bare
    forget(bare)


@pytest.fixture
def attempt(own_lab: Lab) -> Attempt:
    """Runs workers for one loop in the lab, with changed settings and three keys; returns the ended `fleet run`."""

    def go(changes: Changes = run.NO_CHANGES, *, workers: int = 1, loops: int = 1) -> subprocess.CompletedProcess[str]:
        host = Host(own_lab, workers, first_uid=FIRST_UID, changes=changes)
        host.prepare("*-01.conf")
        return host.operate("run", "--loops", str(loops))

    return go


def results(lab: Lab) -> list[Result]:
    """Every result in the lab's spools."""
    return [one for folder in run.paths(lab).state.glob("workers/*/spool") for one in read_spool(folder)]


def said(done: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """Assert that it exited with CODE, and that its last lines have all WORDS and no traceback."""
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr[-4000:]


def test_no_browser(attempt: Attempt) -> None:
    """A missing browser: the error says which setting names it, and what to install."""
    done = attempt({"browser": {"binary": "/usr/bin/no-such-chrome"}})
    said(done, ExitCode.MISSING_PROGRAM, "browser.binary: /usr/bin/no-such-chrome", "install")


def test_a_driver_of_another_version(attempt: Attempt, tmp_path: Path) -> None:
    """Browser and driver of different versions: the error has both, and which driver to install."""
    old = tmp_path / "chromedriver"
    old.write_text("#!/bin/sh\necho 'ChromeDriver 99.0.4844.51 (abc)'\n")
    old.chmod(0o755)
    done = attempt({"browser": {"driver_binary": str(old)}})
    said(done, ExitCode.CONFIGURATION, "is for version 99.0.4844.51", "install the ChromeDriver of version")


def test_a_uid_of_somebody_else(own_lab: Lab) -> None:
    """A worker's UID belongs to a person: the error names them and the setting to change; nothing of theirs changes."""
    uid = 9990  # no fleet, and no benchmark, is so large that this is a worker
    subprocess.run(["useradd", "--no-create-home", "--uid", str(uid), "fleettestperson"], check=True)
    theirs = subprocess.Popen(["setpriv", f"--reuid={uid}", "--clear-groups", "sleep", "300"])
    try:
        done = Host(own_lab, first_uid=uid).operate("up")
        said(done, ExitCode.CONFIGURATION, str(uid), "fleettestperson", "workers.first_uid")
        assert theirs.poll() is None
    finally:
        theirs.kill()
        theirs.wait()
        subprocess.run(["userdel", "fleettestperson"], check=True)


def test_a_uid_that_another_fleet_uses(attempt: Attempt) -> None:
    """A process of another fleet, below its root program, runs under a worker's UID: it is reported and not killed."""
    script = f"setpriv --reuid={FIRST_UID} --clear-groups sleep 300 & echo $!; wait"
    environment = {**os.environ, "FLEET_ROOT": "/nowhere/else"}
    theirs = subprocess.Popen(["sh", "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert theirs.stdout is not None
    pid = int(theirs.stdout.readline())
    try:
        done = attempt({})
        said(done, ExitCode.CONFIGURATION, str(pid), "/nowhere/else", "workers.first_uid")
        assert theirs.poll() is None
    finally:
        os.kill(pid, signal.SIGKILL)
        theirs.communicate()


def test_no_key_at_all(own_lab: Lab) -> None:
    """An empty key pool is reported before anything waits for a key, with the command that fills it."""
    done = Host(own_lab, first_uid=FIRST_UID).operate("run", "--loops", "1")
    said(done, ExitCode.TRY_LATER, "key", "netctl keys import")
    assert results(own_lab) == []


def test_keys_that_do_not_fit_the_settings(attempt: Attempt) -> None:
    """Too few keys, or one with an address from which workers send: reported at once, with key and setting."""
    done = attempt(workers=4)
    said(done, ExitCode.TRY_LATER, "3 keys", "4 workers", "netctl keys import")
    done = attempt({"workers": {"placeholders": "198.18.0.0/16"}})
    said(done, ExitCode.CONFIGURATION, "vpn1-01.conf has the address 198.18.1.11", "2 more there")


def test_silent_servers(attempt: Attempt, own_lab: Lab) -> None:
    """If no server answers a handshake, the loop is handed in as failed, with the reason; the run exits with 1."""
    drop = "table inet silent { chain drops { type filter hook forward priority 0; udp sport 51820 drop; }; }"
    own_lab.run("isp", ["nft", drop], check=True)
    try:
        done = attempt(
            {
                "loop": {"attempts": 1},
                "wireguard": {"handshake_timeout_seconds": 1},
                "netctl": {"request_deadline_seconds": 4},
            }
        )
    finally:
        own_lab.run("isp", ["nft", "delete table inet silent"], check=True)
    said(done, ExitCode.FAILED, "HandshakeTimeout", "did not answer within")
    (result,) = results(own_lab)
    assert not result.ok
    assert "HandshakeTimeout" in {failure.name for failure in result.failures}


def test_a_port_that_is_taken(attempt: Attempt, own_lab: Lab) -> None:
    """Another program holds the browser's loopback port: the loop fails, and the error says how to find the program."""
    port = 10_000 + 2 * (FIRST_UID - 1000)
    taker = ["python3", "-c", f"import socket,time; s=socket.create_server(('127.0.0.1',{port})); time.sleep(300)"]
    with own_lab.popen("host", taker) as listener:
        try:
            done = attempt({"loop": {"attempts": 1}})
            said(done, ExitCode.FAILED, f"port {port}", "ss -ltnp")
        finally:
            listener.kill()


def test_a_task_that_brings_home_nonsense(attempt: Attempt, own_lab: Lab) -> None:
    """A function that is not a task: each loop fails with its name and the reason, and all loops are done."""
    done = attempt({"task": {"run": "copy:copy"}}, loops=2)
    said(done, ExitCode.FAILED, "task: TaskFailed: task copy:copy: it gave a Context, and no Found", "docs/own-task.md")
    assert [(one.loop, one.ok, one.attempts) for one in results(own_lab)] == [(1, False, 1), (2, False, 1)]
    assert all(one.screenshot for one in results(own_lab)), "what the page looked like"


def test_not_root(root: None) -> None:
    """Without root: the error says what needs it, and repeats the command with sudo in front."""
    for module in ("fleet", "demo"):
        words = ["up"] if module == "fleet" else []
        command = ["setpriv", "--reuid=65534", "--clear-groups", *run.program(module, *words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        said(done, ExitCode.NOT_ALLOWED, "needs root", "sudo")


def test_wrong_words(root: None) -> None:
    """Unknown arguments: the error names them, and where the known ones are listed."""
    for words in (("fleet", "verify", "--workers", "w1101"), ("netctl", "status", "--jsn"), ("lab", "up", "here")):
        done = subprocess.run(run.program(*words), capture_output=True, text=True, timeout=60, check=False)
        said(done, ExitCode.USAGE, words[-1], f"{words[0]} {words[1]} --help")


def test_a_namespace_in_use(root: None, traces: Traces) -> None:
    """A foreign namespace with a name of the lab is reported and untouched, and nothing half made stays."""
    lab = Lab(f"f{os.getpid() % 10_000}")
    name = lab.topology.namespace("host")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        done = subprocess.run(
            run.program("lab", "up", "--lab", lab.name), capture_output=True, text=True, timeout=60, check=False
        )
        said(done, ExitCode.CONFIGURATION, name)
        assert Path("/run/netns", name).exists()
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    assert traces(lab.name) == []
