"""The operator's program in a lab: its errors, and that every way to end it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import psutil
import pytest

from fleet.errors import FleetError
from fleet.model import Worker
from fleet.supervise import wait_until
from lab.net import Lab
from lab.topology import SITE_NAME
from tests.fleets import ONE_LOOP, Host

FIRST_UID = 1261
WORKERS = 2


class Operated(Host):
    """The lab's host, prepared for a fleet with its own UIDs."""

    usual = ONE_LOOP

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start an operator's command, which the test will end."""
        argv = self.installation.module("fleet", *words)
        return self.lab.popen("host", argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def ours(self) -> list[str]:
        """The running processes of this fleet: those of its workers' UIDs, and all that name its folders."""
        found = []
        for process in psutil.process_iter(["uids", "cmdline", "status", "environ"]):
            info = process.info
            ours = info["uids"] and FIRST_UID <= info["uids"].real < FIRST_UID + WORKERS
            under = (info["environ"] or {}).get("FLEET_ROOT") == str(self.paths.root)
            command = info["cmdline"] or []
            known = under and any(
                word in " ".join(command) for word in ("supervisord", "netctl", "wireguard-go", "worker")
            )
            if (ours or known) and info["status"] != psutil.STATUS_ZOMBIE:
                found.append(" ".join(command) or f"process {process.pid}")
        return found

    def kernel(self) -> list[str]:
        """The kernel objects that the bare host does not have, as ip and nft show them."""
        links = self.json("ip", "-json", "link")
        rules = self.json("ip", "-json", "rule") + self.json("ip", "-json", "-6", "rule")
        # As text: nft 1.0.6 reads out of bounds when it prints a table with an owner as JSON, and may abort.
        tables = self.host(["nft", "list", "tables"], check=True).stdout.splitlines()
        placeholders = self.host(["ip", "-json", "address", "show", "dev", "lo"], check=True).stdout
        return [
            *(link["ifname"] for link in links if link["ifname"].startswith("wg")),
            *(str(rule) for rule in rules if rule["priority"] not in (0, 32766, 32767)),
            *(table for table in tables if table.split()[-1] == "fleet"),
            *(["placeholders on lo"] if "10.255." in placeholders else []),
        ]

    def left(self) -> list[str]:
        return self.ours() + self.kernel()

    def started(self, program: str) -> Callable[[], bool]:
        """Tells whether PROGRAM's log reports, after this call, that it runs."""
        path = self.paths.log(program)
        since = path.stat().st_size if path.exists() else 0
        return lambda: path.exists() and path.stat().st_size > since


@pytest.fixture(scope="module")
def host(bare: Lab) -> Operated:
    """A host that only these tests use, with keys and accounts."""
    made = Operated(bare, WORKERS, first_uid=FIRST_UID)
    made.prepare()
    return made


@pytest.fixture(autouse=True)
def clean(host: Operated) -> Iterator[None]:
    """Each test begins with a valid fleet.toml, and nothing of a fleet is left after it."""
    host.configure()
    yield
    if host.left():
        host.operate("down")
    assert host.left() == []


def test_every_mistake_of_the_file_at_once(host: Operated) -> None:
    """Exit code 78, each mistake on its own line with its key; nothing is started or made."""
    host.configure({"workers": {"count": 0}, "browser": {"driver": "lynx"}})
    done = host.operate("up")
    assert done.returncode == 78
    assert "workers.count" in done.stderr and "browser.driver" in done.stderr and "what to do" in done.stderr
    assert "Traceback" not in done.stderr


def test_worker_that_cannot_work_ends_the_run(host: Operated) -> None:
    """A worker's final error, here from the operator's own task, ends the run early with code 1 and its message."""
    host.paths.tasks.mkdir(exist_ok=True)
    (host.paths.tasks / "odd.py").write_text("raise ImportError('odd words')\n")
    host.configure({"task": {"run": "odd:task"}})
    done = host.operate("run", "--loops", "1")
    assert done.returncode == 1, done.stderr
    told = "'odd:task' cannot be loaded: odd words" in done.stderr and "worker:w126" in done.stderr
    assert told, done.stderr
    assert host.left() == []


def test_run_reports_every_loop(host: Operated) -> None:
    """`fleet run --json`: one result per loop, each from its leased exit, exit code 0, and nothing is left."""
    host.configure({"loop": {"pause_seconds": 0}})
    done = host.operate("run", "--workers", "1", "--loops", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["good"], report["bad"], report["missing"], report["workers"]) == (2, 0, 0, ["w1261"])
    assert all(item["seen_address"] == item["exit_address"] for item in report["runs"])
    assert report["runs"][0]["exit_server"] != report["runs"][1]["exit_server"]
    assert host.left() == []


@pytest.mark.parametrize(
    ("stage", "number"),
    [("preparing", signal.SIGINT), ("netctl", signal.SIGTERM), ("w1261", signal.SIGHUP)],
)
def test_signal_ends_a_run_and_leaves_nothing(host: Operated, stage: str, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM or a closed terminal at any stage: exit code 128 + n; no process and no kernel object is left.

    One handler takes all three (tests/unit/test_fleet_interrupts.py), so each stage is tested with one of them.
    """
    reached = host.paths.run_order.exists if stage == "preparing" else host.started(stage)
    running = host.begin("run", "--loops", "3")
    try:
        wait_until(reached, 90, lambda: f"{stage} not reached, code {running.poll()}")
        assert running.poll() is None, running.communicate()
        running.send_signal(number)
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert host.left() == []


def test_killed_run_ends_by_itself(host: Operated) -> None:
    """SIGKILL of `fleet run` ends its supervisord and all programs; the next run simply works."""
    reached = host.started("w1262")
    running = host.begin("run", "--loops", "3")
    wait_until(reached, 60, lambda: "no worker started")
    running.kill()
    running.communicate(timeout=10)
    wait_until(lambda: not host.ours(), 60, lambda: str(host.ours()))
    done = host.operate("run", "--workers", "1")
    assert done.returncode == 0, done.stderr


def test_up_twice_and_down_twice(host: Operated) -> None:
    """A second `up` reports the first and changes nothing, `run` is refused meanwhile, a second `down` is no error."""
    assert host.operate("up").returncode == 0
    before = json.loads(host.operate("status", "--json").stdout)
    again = host.operate("up")
    assert (again.returncode, "already up" in again.stderr) == (0, True), again.stderr
    beside = host.operate("run")
    assert (beside.returncode, "fleet down" in beside.stderr) == (75, True), beside.stderr
    after = json.loads(host.operate("status", "--json").stdout)
    assert [item["pid"] for item in before["programs"]] == [item["pid"] for item in after["programs"]]
    assert after["netctl"]["backend"] in ("kernel", "userspace") and after["works"] and not after["differing"]
    host.configure({"workers": {"stop_wait_seconds": 19}, "dns": {"resolvers": ["192.0.2.53"]}, "reach": {"allow": []}})
    other = host.operate("up", "--workers", "1")
    assert (other.returncode, "what to do: fleet down" in other.stderr) == (75, True), other.stderr
    told = "with other settings: dns.resolvers, workers.count, workers.stop_wait_seconds\n"
    assert told in other.stderr, other.stderr
    seen = json.loads(host.operate("status", "--json").stdout)
    assert len(seen["workers"]) == WORKERS and "dns.resolvers, workers.stop_wait_seconds" in seen["differing"][0]
    assert host.operate("down").returncode == 0
    assert host.left() == []
    assert host.operate("down").returncode == 0
    assert host.operate("status").returncode == 1


def test_killed_supervisord_takes_everything_along(host: Operated) -> None:
    """After SIGKILL of supervisord no program keeps running unknown to the next one, and `up` works again.

    The browsers' ports are no longer reserved then for the accounts of that fleet (the control of their reservation).
    """

    def stranger() -> subprocess.CompletedProcess[str]:
        port = Worker(uid=FIRST_UID + 1).browser_ports.driver
        bind = f"import socket; socket.socket().bind(('127.0.0.2', {port}))"
        return host.host(["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-Ic", bind])

    assert host.operate("up").returncode == 0
    assert "Operation not permitted" in stranger().stderr
    pid = json.loads(host.operate("status", "--json").stdout)["supervisor_pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not host.ours(), 30, lambda: str(host.ours()))
    assert stranger().returncode == 0
    again = host.operate("up")
    assert again.returncode == 0, again.stderr


def test_foreground_ends_in_order_on_sigterm(host: Operated) -> None:
    """As systemd runs it: `up --foreground` stays, and SIGTERM ends the whole fleet with code 0."""
    running = host.begin("up", "--foreground")
    try:
        wait_until(host.started("w1262"), 60, lambda: "no worker started")
        wait_until(lambda: _up(host), 90, lambda: "not up")
        running.terminate()
        _, errors = running.communicate(timeout=120)
    finally:
        running.kill()
    assert running.returncode == 0, errors
    assert host.left() == []


def _up(host: Operated) -> bool:
    try:
        programs = json.loads(host.operate("status", "--json").stdout)["programs"]
    except (FleetError, ValueError):
        return False
    return bool(programs) and all(item["state"] == "RUNNING" for item in programs)


def test_a_file_that_breaks_meanwhile_harms_nothing(host: Operated) -> None:
    """A running fleet does not read fleet.toml again: neither a restarted worker or netctl, nor `down`.

    If the snapshot cannot be read, `down` reports it, ends every program and cleans the kernel.
    """
    assert host.operate("up").returncode == 0
    host.paths.config.write_text("[workers\n")
    assert host.operate("supervisorctl", "restart", "netctl", "worker:w1261").returncode == 0
    wait_until(lambda: _up(host), 60, lambda: host.operate("status").stdout)
    host.paths.snapshot.write_text("{")
    assert host.operate("status").returncode == 78
    done = host.operate("down")
    host.configure()
    assert (done.returncode, "without its settings" in done.stderr) == (0, True), done.stderr
    assert host.ours() == []
    assert host.left() == []


def test_reload_starts_workers_again_and_nothing_else(host: Operated) -> None:
    """Task and pause apply after each worker's loop, netctl goes on; changes that need a new start are named, code 1.

    An impossible task is reported with its worker's own message; the next reload starts that worker too. A task that
    is refused before any worker sees it changes nothing.
    """

    def task(name: str) -> str:
        """The task with which the worker NAME was started last."""
        lines = host.paths.log(name).read_text().splitlines()
        return str([json.loads(text)["task"] for text in lines if '"worker.started"' in text][-1])

    assert host.operate("up").returncode == 0
    before = host.status()["pid"]
    host.configure({"task": {"run": "nothing"}})
    done = host.operate("reload")
    assert (done.returncode, "'nothing' cannot be loaded" in done.stderr) == (78, True), done.stderr
    host.paths.tasks.mkdir(exist_ok=True)
    (host.paths.tasks / "odd.py").write_text("raise ImportError('odd words')\n")
    host.configure({"task": {"run": "odd:task"}})
    done = host.operate("reload")
    assert "ended with code 78" in done.stderr and "odd words" in done.stderr, done.stderr
    host.configure(
        {
            "task": {"run": "visit"},
            "task.options": {"urls": [f"https://{SITE_NAME}/"]},
            "reach": {"allow": ["10.9.0.0/16"]},
        }
    )
    ended = host.begin("reload")
    assert ended.stderr
    assert any("restarting" in line for line in ended.stderr)
    ended.terminate()
    assert ended.wait(60) == 143
    done = host.operate("reload")
    assert done.returncode == 1 and "applied: task.options" in done.stderr, done.stderr
    assert "needs a restart: reach.allow" in done.stderr, done.stderr
    assert [task(worker.name) for worker in host.fleet.members] == ["visit"] * WORKERS
    assert host.status()["pid"] == before
