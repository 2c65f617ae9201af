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


@pytest.mark.parametrize("what", KILLED)
def test_nothing_leaves_after_a_kill(host: Installed, what: str) -> None:
    """SIGKILL: systemd starts the fleet again, and no packet of a worker's UID leaves until then, or after."""
    restarts = host.restarts()
    with host.probed(STRANGER) as ear:
        until("the capture sees a stranger", ear.says_more)
    with host.probed(host.workers[0].uid) as ear:
        killed = time.monotonic()
        host.run(f"kill -KILL $({KILLED[what]})", check=True)
        until("started again", lambda: host.restarts() > restarts and host.active() == "active", 90, host.said)
        print(f"up again {time.monotonic() - killed:.1f} s after the end of {what}")
        assert not ear.rest(), host.said()
    host.wait_for_loops()


def test_stop_leaves_nothing(host: Installed) -> None:
    """`systemctl stop` takes all of it out of the kernel; the same prober is heard then (positive control)."""
    host.run("systemctl stop fleet", check=True)
    left = host.run(
        "ip -oneline rule | grep uidrange; ip netns; nft list tables; ps -eo user= | grep -E '^(w13|netctl)'"
    )
    assert (host.active(), left.stdout) == ("inactive", ""), host.said()
    with host.probed(host.workers[0].uid) as ear:
        until("the prober is heard", ear.says_more)


def test_a_stop_while_it_starts(host: Installed) -> None:
    """`systemctl stop` meanwhile ends what was started so far, and the unit has not failed."""
    host.run("systemctl start --no-block fleet", check=True)
    until("it starts", lambda: "starting netctl" in host.said(), 60, host.said)
    host.run("systemctl stop fleet", check=True)
    assert (host.active(), host.run("ip netns; nft list tables").stdout) == ("inactive", ""), host.said()
