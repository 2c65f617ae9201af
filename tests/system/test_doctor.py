"""`fleet doctor` in a lab's host: real problems are found, and --fix repairs what it says it repairs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.machine import spaces
from fleet.model import Worker
from fleet.operate.doctor import dropins, examine
from lab import run
from lab.net import Lab
from tests.fleets import ONE_LOOP, Host
from tests.waiting import until

WORKER = Worker(uid=1291)
Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def host(bare: Lab) -> Host:
    """The lab's host with settings for one worker."""
    made = Host(bare, first_uid=WORKER.uid, changes=ONE_LOOP)
    made.prepare()
    return made


def doctor(lab: Lab, *words: str) -> tuple[int, Findings, str]:
    """Exit code, findings by name, standard error."""
    done = lab.run("host", run.program("fleet", "doctor", "--json", *words), timeout=120)
    assert done.stdout, done.stderr
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)}, done.stderr


@contextmanager
def running(lab: Lab, folder: Path, name: str) -> Iterator[None]:
    """A process called NAME in the host's network, by which the doctor knows that a service runs."""
    program = folder / name
    if not program.exists():
        shutil.copy("/usr/bin/sleep", program)
    process = lab.popen("host", [str(program), "600"], stdin=subprocess.DEVNULL)
    try:
        until("it runs", lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == name[:15])
        yield
    finally:
        process.kill()
        process.wait(10)


def test_before_there_are_settings(bare: Lab) -> None:
    """Without fleet.toml the doctor still checks, says that it uses the defaults, and leaves nothing behind."""
    code, found, said = doctor(bare)
    assert list(found) == [check.name for check in examine.CHECKS]
    assert "defaults" in said
    assert (found["settings"]["verdict"], "fleet.toml" in found["settings"]["seen"]) == ("warning", True)
    assert found["nftables"]["verdict"] == found["browser"]["verdict"] == "ok"
    assert not run.paths(bare).config.exists()
    assert code == int(any(one["verdict"] == "error" for one in found.values()))


def test_a_machine_that_carries_fleets(host: Host) -> None:
    """With settings: no error, exit code 0; each finding says why it matters, and has a command unless it is ok."""
    code, found, _ = doctor(host.lab)
    assert (code, [one for one in found.values() if one["verdict"] == "error"]) == (0, [])
    assert list(found) == [check.name for check in examine.CHECKS]
    for one in found.values():
        assert one["seen"] and one["why"] and (one["verdict"] == "ok" or one["command"]), one
    table = host.operate("doctor")
    assert table.returncode == 0 and "foreign-objects" in table.stdout and "0 errors" in table.stdout


def test_what_is_planted_is_told_and_what_is_ours_is_mended_on_request_only(host: Host, tmp_path: Path) -> None:
    """Foreign rules and filters, as `ip` and `nft` show them; a left-over rule of an earlier fleet run; networkd and
    NetworkManager. --fix removes the left-over rule, writes drop-ins below FLEET_ROOT, and leaves foreign objects.

    One run checks all of them, because it takes seconds of processor time. After a restart of networkd all is ok.
    """
    table = (
        "table inet others { chain returns { type filter hook prerouting priority 0; "
        "meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }; }"
    )
    ours = ("uidrange", f"{WORKER.uid}-{WORKER.uid}", "lookup", str(WORKER.table), "priority", str(WORKER.table))
    commands = (
        ("ip", "route", "add", "203.0.113.99/32", "dev", "uplink", "table", "52"),
        ("ip", "rule", "add", "priority", "5270", "lookup", "52"),
        ("nft", table),
        ("ip", "rule", "add", *ours, "protocol", "77"),
    )
    undone = (
        ("ip", "rule", "del", "priority", "5270"),
        ("ip", "route", "flush", "table", "52"),
        ("nft", "delete", "table", "inet", "others"),
    )
    try:
        for command in commands:
            host.host(command, check=True)
        with running(host.lab, tmp_path, "NetworkManager"), running(host.lab, tmp_path, "systemd-networkd"):
            code, before, _ = doctor(host.lab)
            assert str(WORKER.table) in host.host(["ip", "rule"], check=True).stdout
            _, after, said = doctor(host.lab, "--fix")
        rules = host.host(["ip", "rule"], check=True).stdout
        assert "5270:" in rules and str(WORKER.table) not in rules
    finally:
        for undo in undone:
            host.host(undo)
    for found in (before, after):
        assert "rule 5270 (52) takes 203.0.113.99" in found["rules"]["seen"], found["rules"]
        assert "table inet others (IPv6)" in found["filters"]["seen"], found["filters"]
    assert before["uplink"]["verdict"] == before["connections"]["verdict"] == "ok", before
    assert (code, before["left-over"]["verdict"], before["left-over"]["fixable"]) == (0, "warning", True)
    assert str(WORKER.table) in before["left-over"]["seen"]
    assert "fixed left-over" in said and after["left-over"]["verdict"] == "ok"
    assert before["networkd"]["verdict"] == before["networkmanager"]["verdict"] == "warning"
    assert after["networkmanager"]["verdict"] == "ok"
    assert "systemctl restart systemd-networkd" in after["networkd"]["command"]
    _dropped_in(host, tmp_path, said)


def _dropped_in(host: Host, folder: Path, said: str) -> None:
    """Assert that the drop-ins exist only below the prefix, and that a networkd that has read its own is ok."""
    prefix = host.paths.root
    for path in (dropins.NETWORKD, dropins.NETWORK_MANAGER):
        assert str(prefix / path) in said and (prefix / path).stat().st_mode & 0o777 == 0o644
        assert not (Path("/") / path).exists()
    with running(host.lab, folder, "systemd-networkd"):
        _, again, said = doctor(host.lab, "--fix")
        assert (again["networkd"]["verdict"], "fixed" in said) == ("ok", False)


def test_namespaces_of_a_larger_fleet_are_told(host: Host) -> None:
    """With isolation netns: namespaces can be made here; a name of no worker is a warning until clean-up."""
    name = Worker(uid=WORKER.uid + 1).space
    host.configure({"": {"isolation": "netns"}})
    try:
        code, found, _ = doctor(host.lab)
        assert (code, found["namespaces"]["verdict"], found["rp-filter"]["seen"][:10]) == (0, "ok", "not needed")
        spaces.make(host.paths.spaces / name)
        _, found, _ = doctor(host.lab)
        assert (found["namespaces"]["verdict"], name in found["namespaces"]["seen"]) == ("warning", True)
        _, found, said = doctor(host.lab, "--fix")
        assert "fixed left-over" in said and found["namespaces"]["verdict"] == "ok"
    finally:
        host.configure()


def test_somebody_elses_object_is_an_error(host: Host) -> None:
    """A foreign link inside the fleet's marks: exit code 1, its name and the command that shows it; --fix leaves it."""
    host.host(["ip", "link", "add", WORKER.interface, "type", "bridge"], check=True)
    try:
        code, found, _ = doctor(host.lab, "--fix")
        assert (code, found["foreign-objects"]["verdict"]) == (1, "error")
        assert WORKER.interface in found["foreign-objects"]["seen"]
        assert WORKER.interface in found["foreign-objects"]["command"]
    finally:
        host.host(["ip", "link", "delete", WORKER.interface], check=True)


def test_a_running_fleet_is_no_finding(host: Host) -> None:
    """While the fleet works, its own rules, processes and memory count neither as left over nor as foreign."""
    host.operate("up", check=True)
    try:
        code, found, _ = doctor(host.lab)
        assert (code, [one for one in found.values() if one["verdict"] == "error"]) == (0, [])
        assert "running" in found["left-over"]["seen"]
        assert WORKER.interface not in found["rp-filter"]["seen"]
    finally:
        host.operate("down", check=True)
