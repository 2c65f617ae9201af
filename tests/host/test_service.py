"""deploy/fleet.service on a booted Debian: what systemd does with it, and what happens to the fleet."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest

from tests.host.installed import Installed
from tests.unit.test_fleet_service import SCORE
from tests.waiting import until


def test_start_returns_when_it_is_up(host: Installed) -> None:
    """`systemctl start` exits with 0 once every program runs, and loops are good."""
    host.run("systemctl daemon-reload && systemctl start fleet", check=True)
    programs = host.status()["programs"]
    assert host.active() == "active" and {one["state"] for one in programs} == {"RUNNING"}, (programs, host.said())
    host.wait_for_loops()


CUT = {"net_raw": 13, "sys_module": 16, "sys_rawio": 17, "sys_boot": 22, "sys_time": 25, "mknod": 27, "bpf": 39}
"""linux/capability.h"""


def test_the_unit_is_as_narrow_as_said(host: Installed) -> None:
    """systemd's score is as said; the fleet works without these rights, under a filter, and with the host's mounts."""
    host.run("systemctl start fleet", check=True)
    said = host.run("systemd-analyze security --no-pager fleet", check=True).stdout
    assert float(re.findall(r"Overall exposure level for .*: ([0-9.]+)", said)[0]) <= SCORE, said
    parent = host.machine.unit("fleet", "MainPID")
    for pid in (parent, str(host.supervisor())):
        status = host.run(f"cat /proc/{pid}/status", check=True).stdout
        rights, seccomp = (re.findall(rf"^{name}:\s+(\w+)$", status, re.MULTILINE)[0] for name in ("CapBnd", "Seccomp"))
        assert seccomp == "2" and not [name for name, bit in CUT.items() if int(rights, 16) >> bit & 1], status
    mounts = host.run(f"readlink /proc/1/ns/mnt /proc/{parent}/ns/mnt", check=True).stdout.split()
    assert mounts[0] == mounts[1], "the names of the workers' networks would be its own"


KILLED = {
    "supervisord": "kill -KILL $(fleet supervisorctl pid)",
    "its parent": "kill -KILL $(systemctl show --property MainPID --value fleet)",
    "every process of the unit": "systemctl kill --signal=KILL fleet",
}
RARE = (pytest.param(name, marks=pytest.mark.whole_host) for name in ("its parent", "every process of the unit"))


@pytest.mark.parametrize("what", ["supervisord", *RARE])
def test_nothing_leaves_after_a_kill(host: Installed, what: str) -> None:
    """After SIGKILL systemd starts the fleet again; no packet of a worker's UID leaves meanwhile or after."""
    host.run("systemctl start fleet", check=True)
    host.nothing_leaves_after(KILLED[what])


def test_reload_applies_what_it_can(host: Installed) -> None:
    """`systemctl reload` applies a new task; for a change that needs a new start it fails, and the unit goes on."""
    host.run("systemctl start fleet", check=True)
    host.configure({"loop": {"pause_seconds": 3}})
    assert host.run("systemctl reload fleet").returncode == 0, host.said()
    until("it says what it applied", lambda: "applied: loop.pause_seconds" in host.said(), 30, host.said)
    host.configure({"loop": {"pause_seconds": 3}, "workers": {"stop_wait_seconds": 11}})
    assert host.run("systemctl reload fleet").returncode != 0
    until("it says what it did not", lambda: "workers.stop_wait_seconds" in host.said(), 30, host.said)
    assert host.active() == "active"
    host.configure()


def test_restart_makes_all_of_it_again(host: Installed) -> None:
    """`systemctl restart` ends one fleet and returns when the next is up; its workers' keys are given back."""
    host.run("systemctl start fleet", check=True)
    before = host.supervisor()
    host.run("systemctl restart fleet", check=True)
    assert (host.active(), host.supervisor() != before) == ("active", True), host.said()
    host.wait_for_loops()
    leased = [one["state"] for one in json.loads(host.run("netctl keys list --json", check=True).stdout)]
    assert leased.count("leased") <= len(host.workers), leased


@pytest.mark.whole_host
def test_try_later_is_never_given_up(host: Installed) -> None:
    """Without free keys the unit restarts more often than systemd's limit of 5 in 10 s; with keys a restart works."""
    host.run("systemctl stop fleet && netctl keys retire $(ls /root/keys)", check=True)
    host.machine.write("etc/systemd/system/fleet.service.d/often.conf", "[Service]\nRestartSec=100ms\n")
    host.run("systemctl daemon-reload && systemctl start --no-block fleet", check=True)
    began = time.monotonic()
    until("it goes on trying", lambda: host.restarts() > 5, 600, host.said)
    print(f"{host.restarts()} starts in {time.monotonic() - began:.1f} s")
    assert "the key pool has 0 keys" in host.said() and host.active() == "activating"
    host.run("rm -r /etc/systemd/system/fleet.service.d && systemctl daemon-reload", check=True)
    host.run("netctl keys revive $(ls /root/keys) && systemctl restart fleet", check=True)
    assert host.active() == "active", host.said()


def test_boot_without_a_network(host: Installed) -> None:
    """Enabled, the unit is active after a boot without network; workers log why they wait; plugged in, they work."""
    host.access.hang_up()
    reboot(host, '"NoWay"')
    assert host.doctor()["uplink"][0] == "warning"
    host.access.serve()
    host.access.unplug()
    host.access.plug()
    host.wait_for_loops()
    assert host.restarts() == 0


@pytest.mark.whole_host
def test_boot_before_dns_answers(host: Installed) -> None:
    """With keys that name servers by host name the unit is active, workers log why they wait, and then go on."""
    names = "; ".join(f"s/= {one.address}:/= {one.name}:/" for one in host.access.lab.topology.vpn)
    host.run(f"mkdir -p /root/named && cp /root/keys/* /root/named && sed -i '{names}' /root/named/*", check=True)
    host.run("netctl keys import /root/named/*", check=True)
    host.access.answer_names(False)
    try:
        reboot(host, "does DNS work on this host?")
    finally:
        host.access.answer_names(True)
    began = time.monotonic()
    host.wait_for_loops()
    print(f"a loop {time.monotonic() - began:.1f} s after DNS had come")
    assert host.restarts() == 0
    host.run("netctl keys import /root/keys/*", check=True)


def reboot(host: Installed, why: str) -> None:
    """Reboot with the unit enabled; assert that it is active, and that its workers give WHY as the reason to wait."""
    log = "/var/log/fleet/w1301.log"
    host.run(f"rm -f {log}; systemctl --quiet enable fleet", check=True)
    host.machine.reboot()
    host.run("systemctl --quiet disable fleet", check=True)
    until("active", lambda: host.active() == "active", 180, host.said)
    until("told why", lambda: why in host.run(f"cat {log}").stdout, 60, lambda: host.run(f"tail {log}").stdout)


def moments(text: str) -> set[datetime]:
    """The times of the lines of a log."""
    said = (json.loads(line)["timestamp"] for line in text.splitlines() if line.startswith("{") and line.endswith("}"))
    return {datetime.fromisoformat(one.replace("Z", "+00:00")) for one in said}


LOGROTATE = {
    "a copy": "copytruncate",
    "another file": "nocreate\npostrotate\nkill -USR2 $(fleet supervisorctl pid)\nendscript",
}


@pytest.mark.whole_host
@pytest.mark.parametrize("how", LOGROTATE)
def test_logs_go_on_after_logrotate(host: Installed, how: str) -> None:
    """Logging continues after logrotate has truncated or moved a log; `fleet log -f` follows; no new doctor finding."""
    host.run("systemctl start fleet", check=True)
    usual = host.verdicts()
    host.machine.write("etc/logrotate.d/fleet", f"/var/log/fleet/w1301.log {{\nrotate 2\n{LOGROTATE[how]}\n}}\n")
    log, heard = host.machine.root / "var/log/fleet/w1301.log", host.machine.root / "root/heard"
    follow = "fleet log --follow --json --worker w1301"
    with host.beside(follow, "--property=StandardOutput=truncate:/root/heard"):
        until("it follows", heard.read_text, 30)
        host.run("logrotate --force /etc/logrotate.d/fleet && rm /etc/logrotate.d/fleet", check=True)
        said = until("it goes on", lambda: log.exists() and moments(log.read_text()), 60)
        until("all of it is heard", lambda: said and said <= moments(heard.read_text()), 30, lambda: said)
    assert host.verdicts() == usual


@pytest.mark.whole_host
def test_verify_holds(host: Installed) -> None:
    """`fleet verify` ends with 0 on a host that has no IPv6."""
    verified = host.run("fleet verify --worker w1301", timeout=300)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_stop_leaves_nothing(host: Installed) -> None:
    """`systemctl stop` removes everything from the kernel; after that the prober is seen (positive control)."""
    host.run("systemctl start fleet", check=True)
    host.run("systemctl stop fleet", check=True)
    left = host.run(
        "ip -oneline rule | grep uidrange; ip netns; nft list tables; ps -eo user= | grep -E '^(w13|netctl)';"
        "ls /run | grep fleet-"
    )
    assert (host.active(), left.stdout) == ("inactive", ""), host.said()
    with host.probed(host.workers[0].uid) as ear:
        until("the prober is heard", ear.says_more, 30)


def test_a_stop_while_it_starts(host: Installed) -> None:
    """`systemctl stop` during the start ends what was started so far, and the unit has not failed."""
    host.run("systemctl stop fleet", check=True)
    host.run("journalctl --rotate --vacuum-time=1s && systemctl start --no-block fleet", check=True)
    until("it starts", lambda: "preparing" in host.said(), 60, host.said)
    host.run("systemctl stop fleet", check=True)
    assert (host.active(), host.run("ip netns; nft list tables").stdout) == ("inactive", ""), host.said()
