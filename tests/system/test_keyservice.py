"""A fleet, started as an operator starts it, with keys of a service that is killed, slow and lying meanwhile.

`--loops 40` is the full test: eight workers do five loops each, on five servers with ten keys each.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import psutil
import pytest

from lab.net import Lab
from tests.fleets import Host
from tests.keyservices import Judge, Service
from tests.waiting import until

FIRST_UID = 1301
MUCH = 40
FAULTS = ("killed", "slow", "mismatch", "twice", "garbage", "endless", "stranger", "refuses", "types", "redirect")
FAULT_SECONDS, WELL_SECONDS = 1.5, 3.0


@pytest.fixture(scope="module")
def loops(request: pytest.FixtureRequest) -> int:
    """How many loops are done."""
    return int(request.config.getoption("--loops"))


@pytest.fixture(scope="module")
def ground(bare: Lab, loops: int) -> Iterator[Lab]:
    """The lab; for many loops one with five servers."""
    if loops < MUCH:
        yield bare
        return
    made = Lab(f"k{os.getpid() % 10_000}", servers=5, keys=1)
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="module")
def service(ground: Lab, loops: int) -> Iterator[Service]:
    """The key service: ten keys at each server for many loops, else four."""
    made = Service(ground, 10 if loops >= MUCH else 4)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def host(ground: Lab, service: Service, loops: int) -> Iterator[Host]:
    """Accounts and settings, and no key at all."""
    made = Host(ground, 8 if loops >= MUCH else 2, first_uid=FIRST_UID, isolation="netns", changes=service.settings)
    made.operate("accounts", "make", check=True)
    yield made
    made.operate("down")


def goes_wrong(service: Service, word: str) -> None:
    """Kill the service if WORD is `killed`; else start it if it was killed, and set its fault to WORD."""
    if word == "killed":
        service.kill()
        return
    assert service.process
    if service.process.poll() is not None:
        service.start()
    service.fault(word)


SERVING = ["keyservice", "serve"]
ASK = """
import contextlib, socket, sys
made = socket.socket(socket.AF_UNIX)
made.connect(sys.argv[1])
with contextlib.suppress(OSError):  # who is refused is hung up on at once
    made.sendall(b'{"method": "ask_status", "parameters": {}}\\n')
print(made.makefile().readline())
"""


def answered(host: Host, account: str) -> str:
    """The answer of the key service's client program to a process of ACCOUNT."""
    become = ["setpriv", f"--reuid={account}", "--regid=fleet", "--clear-groups"]
    return host.host([*become, str(host.installation.python), "-c", ASK, str(host.paths.keyservice_socket)]).stdout


def done(host: Host) -> int:
    """How many loops of HOST's workers are handed in."""
    return sum(1 for worker in host.fleet.members for _ in host.paths.spool(worker).glob("*-*.json"))


def test_a_fleet_on_keys_of_a_service_that_fails_meanwhile(host: Host, service: Service, loops: int) -> None:
    """All loops are good; no key is in two devices, or still in one after its return; every key is given back.

    The service's client program has no rights and answers only netctl. No log has a private key.
    """
    judge = Judge(host, service)
    turns = cycle(turn for word in FAULTS for turn in ((word, FAULT_SECONDS), ("", WELL_SECONDS)))
    argv = host.installation.module("fleet", "run", "--loops", str(loops // host.count), "--json")
    said = host.paths.root / "report.json"
    with said.open("w") as report_file:  # a pipe that nobody reads yet would hold up a long report
        running = host.popen(argv, stdin=subprocess.DEVNULL, stdout=report_file, stderr=subprocess.DEVNULL)
    until("the first tunnel", lambda: judge.look() or running.poll() is not None, 60)
    listed = json.loads(host.command("keys", "list", "--json", check=True).stdout)
    assert {"leased"} <= {one["state"] for one in listed} and "private" not in json.dumps(listed)
    asking = next(one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[-2:] == SERVING)
    status = Path(f"/proc/{asking.pid}/status").read_text()
    assert asking.username() == "fleet-keys" and "CapPrm:\t0000000000000000" in status
    assert "NotAllowed" in answered(host, host.worker().name) and "NotAllowed" in answered(host, "root")
    assert answered(host, "netctl") == '{"result":{}}\n\n', "the control"
    until_then = 0.0
    while running.poll() is None:
        judge.look()
        if done(host) >= loops - host.count:
            goes_wrong(service, "")
        elif time.monotonic() > until_then:
            word, seconds = next(turns)
            goes_wrong(service, word)
            until_then = time.monotonic() + seconds
    text = said.read_text()
    assert running.returncode == 0, text[-3000:]
    report = json.loads(text)
    assert (report["good"], report["bad"], report["missing"]) == (loops, 0, 0), report
    print(f"{report['good']} good loops, {len(judge.seen)} keys seen in devices, {report['wall_seconds']:.0f} s")
    assert len(judge.seen) >= host.count
    assert service.lent() <= service.unheard(), "what was heard of is given back"
    written = "".join(path.read_text(errors="replace") for path in host.paths.logs.iterdir())
    assert not any(private in written for private in service.privates)
