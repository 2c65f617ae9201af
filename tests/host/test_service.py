"""deploy/fleet.service on a booted Debian: what systemd does with it, and what becomes of the fleet."""

from __future__ import annotations

import time

import pytest

from tests.host.installed import STRANGER, Installed
from tests.waiting import until


def test_start_returns_when_it_is_up(host: Installed) -> None:
    """`systemctl start` ends well when every program runs, and loops are good."""
    host.run("systemctl daemon-reload && systemctl start fleet", check=True)
    programs = host.status()["programs"]
    assert host.active() == "active" and {one["state"] for one in programs} == {"RUNNING"}, (programs, host.said())
    host.wait_for_loops()


KILLED = {"supervisord": "fleet supervisorctl pid", "its parent": "systemctl show --property MainPID --value fleet"}


@pytest.mark.parametrize("what", ["supervisord", pytest.param("its parent", marks=pytest.mark.whole_host)])
def test_nothing_leaves_after_a_kill(host: Installed, what: str) -> None:
    """SIGKILL: systemd starts the fleet again, and no packet of a worker's UID leaves until then, or after."""
    host.run("systemctl start fleet", check=True)
    restarts = host.restarts()
    with host.probed(STRANGER) as ear:
        until("the capture sees a stranger", ear.says_more, 30)
    with host.probed(host.workers[0].uid) as ear:
        killed = time.monotonic()
        host.run(f"kill -KILL $({KILLED[what]})", check=True)
        until("started again", lambda: host.restarts() > restarts and host.active() == "active", 180, host.said)
        print(f"up again {time.monotonic() - killed:.1f} s after the end of {what}")
        assert not ear.rest(), host.said()


def test_reload_applies_what_it_can(host: Installed) -> None:
    """`systemctl reload` applies a new task; what needs a new start is a failed reload of a unit that goes on."""
    host.run("systemctl start fleet", check=True)
    host.configure({"loop": {"pause_seconds": 3}})
    assert host.run("systemctl reload fleet").returncode == 0, host.said()
    until("it says what it applied", lambda: "applied: loop.pause_seconds" in host.said(), 30, host.said)
    host.configure({"loop": {"pause_seconds": 3}, "workers": {"stop_wait_seconds": 11}})
    assert host.run("systemctl reload fleet").returncode != 0
    until("it says what it did not", lambda: "workers.stop_wait_seconds" in host.said(), 30, host.said)
    assert host.active() == "active"
    host.configure()


def test_boot_without_a_network(host: Installed) -> None:
    """Enabled, the unit is active after a boot without one; workers hear why they wait; plugged in, loops are good."""
    host.run("systemctl enable fleet", check=True)
    host.access.hang_up()
    host.machine.reboot()
    until("active", lambda: host.active() == "active", 180, host.said)
    log = host.machine.root / "var/log/fleet/w1301.log"
    until("told why", lambda: '"NoWay"' in log.read_text(), 60, lambda: log.read_text()[-2000:])
    assert host.doctor()["uplink"][0] == "warning"
    host.access.serve()
    host.access.unplug()
    host.access.plug()
    host.wait_for_loops()
    assert host.restarts() == 0


@pytest.mark.whole_host
def test_another_browser_under_running_workers(host: Installed) -> None:
    """Replaced as dpkg does it, under running browsers: each worker notices at its next loop, and loops stay good."""
    for name in ("/usr/lib/chromium/chromium", "/usr/bin/chromium", "/usr/bin/chromedriver"):
        host.run(f"cp --archive {name} {name}.dpkg-new && mv {name}.dpkg-new {name}", check=True)
    host.wait_for_loops()
    log = host.machine.root / "var/log/fleet/w1301.log"
    until("noticed", lambda: "browser.updated" in log.read_text(), 60)
    assert host.doctor()["browser"][0] == "ok"


@pytest.mark.whole_host
def test_verify_holds(host: Installed) -> None:
    """`fleet verify` ends with 0 on a host that has no IPv6."""
    verified = host.run("fleet verify --worker w1301", timeout=300)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_stop_leaves_nothing(host: Installed) -> None:
    """`systemctl stop` takes all of it out of the kernel; the same prober is heard then (positive control)."""
    host.run("systemctl stop fleet", check=True)
    left = host.run(
        "ip -oneline rule | grep uidrange; ip netns; nft list tables; ps -eo user= | grep -E '^(w13|netctl)'"
    )
    assert (host.active(), left.stdout) == ("inactive", ""), host.said()
    with host.probed(host.workers[0].uid) as ear:
        until("the prober is heard", ear.says_more, 30)


def test_a_stop_while_it_starts(host: Installed) -> None:
    """`systemctl stop` meanwhile ends what was started so far, and the unit has not failed."""
    host.run("journalctl --rotate --vacuum-time=1s && systemctl start --no-block fleet", check=True)
    until("it starts", lambda: "preparing" in host.said(), 60, host.said)
    host.run("systemctl stop fleet", check=True)
    assert (host.active(), host.run("ip netns; nft list tables").stdout) == ("inactive", ""), host.said()
