"""`fleet down` with a process that cannot be ended: its UID stays confined, and the operator is told the process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest

from fleet.model import Worker
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.fleets import FREE, Rig, running
from tests.inside import PAST_THE_TUNNELS, PIPES, Capture, capturing
from tests.waiting import until

SENDS_BY_ITSELF = """
import signal, socket, sys
made = socket.create_connection((sys.argv[1], 443), 10)
made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for name, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 127)):
    made.setsockopt(socket.IPPROTO_TCP, name, value)
print("ready", flush=True)
signal.pause()
"""
"""A connection that the kernel keeps alive with a packet a second, whatever becomes of its process."""
KEEPS_FROM_ENDING = """
import ctypes, sys
PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40
assert not ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, ctypes.c_void_p(PTRACE_O_TRACEEXIT))
print("ready", flush=True)
sys.stdin.read()
"""
"""A tracer that lets no process end: ptrace(2), PTRACE_EVENT_EXIT, where SIGKILL has no effect either."""
COMES_AGAIN = """
import subprocess, sys, threading
def again():
    while True:
        subprocess.run(["sleep", "99"], user=int(sys.argv[1]), group=int(sys.argv[1]), extra_groups=[])
# Several: on a busy host two looks would fall between the end of one process and the start of the next.
for _ in range(8):
    threading.Thread(target=again).start()
print("ready", flush=True)
"""
"""A service whose account is a worker's."""


@contextlib.contextmanager
def python(rig: Rig, script: str, *words: str, worker: Worker | None = None) -> Iterator[int]:
    """Start SCRIPT and wait until it is ready; yields its pid."""
    argv = [sys.executable, "-I", "-c", script, *words]
    started = rig.popen(rig.as_worker(worker, *argv) if worker else argv, **PIPES)
    assert started.stdout and started.stdout.readline() == "ready\n"
    yield started.pid
    started.kill()


@pytest.fixture
def rig(lab: Lab) -> Iterator[Rig]:
    """One worker's fleet, in the isolation that has another way out than the tunnel."""
    with running(lab) as made:
        yield made


def test_what_does_not_end_stays_held_back(rig: Rig) -> None:
    """Exit code 75 with the pid; rules and tables stay, nothing leaves. After the process has ended, `down` gives 0.

    The control: without rules and tables, what the process left to the kernel to send takes the uplink.
    """
    worker = rig.client()
    assert "ok" in worker.ask(do="connect")

    def held() -> list[str]:
        return [rig.host(argv).stdout for argv in (["ip", "rule"], ["nft", "-s", "list", "table", "inet", "fleet"])]

    with capturing(rig.lab, *PAST_THE_TUNNELS) as seen, contextlib.ExitStack() as stack:
        capture = Capture(seen, rig.client_of(FREE))
        survivor = stack.enter_context(python(rig, SENDS_BY_ITSELF, str(WEB_ADDRESS), worker=rig.worker()))
        with python(rig, KEEPS_FROM_ENDING, str(survivor)):
            rig.kill_netctl()
            rig.devices[rig.worker().interface].kill()
            until("its device is gone", lambda: rig.host(["ip", "link", "show", rig.worker().interface]).returncode)
            before = held()
            done = rig.operate("down")
            assert done.returncode == 75 and f"SIGKILL: {survivor} (" in done.stderr, done.stderr
            assert held() == before and str(rig.worker().uid) in before[1]
            assert worker.process.wait(5)
            assert capture.lines() == []
            rig.host(["nft", "delete", "table", "inet", "fleet"], check=True)
            rig.host(["ip", "rule", "flush", "protocol", "77"], check=True)
            until("what it has left is seen", lambda: any(f"{WEB_ADDRESS}.443" in one for one in capture.lines()))
        assert rig.operate("down").returncode == 0
    assert rig.host(["nft", "list", "table", "inet", "fleet"]).returncode


def test_who_starts_processes_of_workers_is_named(rig: Rig) -> None:
    """Exit code 75 naming the program that starts them, instead of a message about SIGKILL; after its end, 0."""
    with python(rig, COMES_AGAIN, str(rig.worker().uid)) as starter:
        rig.kill_netctl()
        done = rig.operate("down")
        assert done.returncode == 75 and "as fast as they are killed" in done.stderr, done.stderr
        assert f"end who starts them ({starter} (" in done.stderr and "SIGKILL" not in done.stderr, done.stderr
    assert rig.operate("down").returncode == 0
