"""The privileges of netctl and the tunnels under supervisord, as /proc shows them."""

from __future__ import annotations

import grp
import json
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fleet.model import Worker
from lab import run
from lab.net import Lab
from tests.fleets import Host
from tests.waiting import until

WORKER = Worker(uid=1281)
NET_ADMIN = f"{1 << 12:016x}"
"""CAP_NET_ADMIN alone, as /proc/PID/status writes it."""
SECRETS = ("mem", "environ", "maps", "fd/0")


@pytest.fixture(scope="module")
def host(bare: Lab) -> Iterator[Host]:
    """A fleet of one worker, started as an operator starts it."""
    slow: run.Changes = {"loop": {"pause_seconds": 600}, "wireguard": {"backend": "userspace"}}
    made = Host(bare, first_uid=WORKER.uid, changes=slow)
    made.prepare()
    try:
        made.operate("up", check=True)
        yield made
    finally:
        made.operate("down", check=True)


@pytest.fixture(scope="module")
def pids(host: Host) -> dict[str, int]:
    """Pids by supervisor's name: `netctl`, `wg:wg281`, `worker:w1281`; for a worker its own pid, not its launcher's."""
    done = host.operate("status", "--json", check=True)
    found = {program["name"]: program["pid"] for program in json.loads(done.stdout)["programs"]}
    launcher = psutil.Process(found[f"worker:{WORKER.name}"])
    (first,) = launcher.children()
    (worker,) = first.children()
    return {**found, f"worker:{WORKER.name}": worker.pid}


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


privileged = pytest.mark.parametrize("program", ["netctl", f"wg:{WORKER.interface}"])


@privileged
def test_one_user_one_capability(pids: dict[str, int], program: str) -> None:
    """Own user, no other group, only CAP_NET_ADMIN in every set, bounding set included; no more can be gained."""
    status, who = _status(pids[program]), pwd.getpwnam("netctl")
    assert status["Uid"].split() == [str(who.pw_uid)] * 4
    assert status["Gid"].split() == [str(who.pw_gid)] * 4
    assert status["Groups"] == ""
    capabilities = {name: value for name, value in status.items() if name.startswith("Cap")}
    assert capabilities == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), NET_ADMIN)
    assert status["NoNewPrivs"] == "1"


@privileged
def test_private_umask_and_no_core(pids: dict[str, int], program: str) -> None:
    """Only it may read its files; a core may have one byte, which also prevents cores through a pipe."""
    assert _status(pids[program])["Umask"] == "0077"
    limits = Path(f"/proc/{pids[program]}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[-3:-1] == ["1", "1"]


def test_worker_has_no_capability(pids: dict[str, int]) -> None:
    """A worker has no capability in any set."""
    status = _status(pids[f"worker:{WORKER.name}"])
    assert status["Uid"].split() == [str(WORKER.uid)] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


def _reads(pid: int, name: str, *words: str) -> bool:
    """Whether a process started with setpriv WORDS can open /proc/PID/NAME, and ptrace's check would let it."""
    command = ["setpriv", *words, "head", "-c", "0", f"/proc/{pid}/{name}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _as(account: str) -> tuple[str, ...]:
    return (f"--reuid={account}", "--regid=fleet", "--clear-groups", "--inh-caps=-all,+net_admin")


def test_nobody_looks_into_netctls_memory(pids: dict[str, int]) -> None:
    """Neither a worker nor another process of netctl's account can read its memory, environment or descriptors.

    The control: the same account can read those of an ordinary process of its own.
    """
    ambient = "--ambient-caps=-all,+net_admin"
    own = subprocess.Popen(["setpriv", *_as("netctl"), ambient, "sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        until("it is a sleep", lambda: Path(f"/proc/{own.pid}/comm").read_text() == "sleep\n")
        for name in ("environ", "maps"):
            assert _reads(own.pid, name, *_as("netctl"), ambient)
        for name in SECRETS:
            assert not _reads(pids["netctl"], name, *_as("netctl"), ambient), name
            assert not _reads(pids["netctl"], name, *_as(WORKER.name)), name
            assert not _reads(pids[f"wg:{WORKER.interface}"], name, *_as(WORKER.name)), name
    finally:
        own.send_signal(signal.SIGKILL)
        own.wait(10)


def test_nobody_of_its_uid_looks_into_a_worker(pids: dict[str, int]) -> None:
    """A hijacked browser has the worker's UID, but can read neither the worker's memory nor its descriptors.

    The control: it can read those of another program of that UID.
    """
    who = (f"--reuid={WORKER.uid}", "--regid=fleet", "--clear-groups")
    pid = pids[f"worker:{WORKER.name}"]
    until("it is a Python program", lambda: not _reads(pid, "environ", *who))
    own = subprocess.Popen(["setpriv", *who, "sleep", "60"], stdin=subprocess.DEVNULL)
    try:
        until("it is a sleep", lambda: Path(f"/proc/{own.pid}/comm").read_text() == "sleep\n")
        for name in SECRETS:
            assert not _reads(pid, name, *who), name
        for name in ("environ", "maps"):
            assert _reads(own.pid, name, *who)
    finally:
        own.send_signal(signal.SIGKILL)
        own.wait(10)


def test_sockets_and_keys_have_one_owner(host: Host) -> None:
    """The socket is in a folder of netctl that the workers' group may enter; only netctl may read keys."""
    netctl, group = pwd.getpwnam("netctl").pw_uid, grp.getgrnam("fleet").gr_gid
    tunnel = host.lab.places.at("host") / "wireguard"
    paths = host.paths
    wanted = {
        paths.netctl_socket.parent: (netctl, group, 0o750),
        paths.netctl_socket: (netctl, group, 0o660),
        paths.key_store.parent: (netctl, 0, 0o700),
        paths.key_store: (netctl, group, 0o600),
        tunnel: (netctl, group, 0o700),
    }
    found = {path: path.stat() for path in wanted}
    assert {path: (at.st_uid, at.st_gid, at.st_mode & 0o777) for path, at in found.items()} == wanted
    for path in (*paths.key_store.parent.iterdir(), *tunnel.iterdir()):
        assert path.stat().st_uid == netctl and path.stat().st_mode & 0o077 == 0, path
