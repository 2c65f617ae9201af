"""deploy/fleet.service on a whole machine with the kernel's WireGuard and all of cgroup v2, in both isolations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from tests.host.installed import STRANGER, Installed
from tests.waiting import until

PATIENCE = 1200
"""For what takes one to four minutes on an idle machine."""
LOOK = 10.0
"""Each look is a command inside, and takes processors from what it looks at."""
GROUPS = "/sys/fs/cgroup/system.slice/fleet.service"
HOG = f"""echo 0 >{GROUPS}/w1301/cgroup.procs && exec setpriv --reuid {STRANGER} --clear-groups python3 -Ic '
kept = []
while True:
    kept.append(b"x" * (8 << 20))
'"""
"""A stranger: the worker itself would end what its UID runs beside it."""


def wait_for_a_loop(host: Installed) -> None:
    """One that begins from now on and is good: others may have been too slow for ChromeDriver."""
    began = datetime.now(timezone.utc)
    (worker,) = host.workers

    def recent() -> list[tuple[bool, str]]:
        return [(one.ok, one.reason) for one in host.results(worker) if one.started > began]

    until("a good loop", lambda: any(ok for ok, _ in recent()), PATIENCE, lambda: (recent(), host.said()), LOOK)


@pytest.fixture(scope="module", params=["uid", "netns"])
def fleet(host: Installed, request: pytest.FixtureRequest) -> Iterator[Installed]:
    """It was started in that isolation, by systemd."""
    host.configure({"": {"isolation": request.param}})
    # Where the machine is busy supervisord answers too late for `fleet up`, and systemd starts it again.
    host.run("systemctl start fleet", timeout=PATIENCE)
    until("active", lambda: host.active() == "active", PATIENCE, host.said, LOOK)
    yield host
    host.run("systemctl stop fleet", timeout=PATIENCE)


def test_active_is_up(fleet: Installed) -> None:
    """The unit is active and every program runs; none of them is a WireGuard, whose devices are the kernel's."""
    programs = {one["name"]: one["state"] for one in fleet.status()["programs"]}
    assert {*programs.values()} == {"RUNNING"}, (programs, fleet.said())
    assert not [name for name in programs if name.startswith("wg")], programs
    look = "ip -json link show type wireguard; for n in $(ip netns | cut -d' ' -f1); do"
    said = fleet.run(f"{look} ip -n $n -json link show type wireguard; done", check=True).stdout
    found = [link.get("ifname") for line in said.splitlines() if line.startswith("[") for link in json.loads(line)]
    assert fleet.workers[0].interface in found, said


def test_a_loop_through_the_kernels_wireguard(fleet: Installed) -> None:
    """A real Chromium's whole loop is good."""
    wait_for_a_loop(fleet)


def test_who_takes_too_much_memory_takes_it_from_its_group(fleet: Installed) -> None:
    """In a worker's control group: the kernel ends it at the worker's limit; netctl, the tunnels and the unit stay."""

    def killed(name: str) -> int:
        events = fleet.run(f"cat {GROUPS}/{name}/memory.events", check=True).stdout.split()
        return int(events[events.index("oom_kill") + 1])

    def others() -> tuple[str, int]:
        return fleet.run(f"cat {GROUPS}/supervisor/cgroup.procs", check=True).stdout, fleet.restarts()

    before, stay = (killed("w1301"), killed("supervisor")), others()
    ended = fleet.run(HOG, timeout=PATIENCE)
    after = (killed("w1301"), killed("supervisor"))
    assert ended.returncode == 137 and after[0] > before[0] and after[1] == before[1], (ended, before, after)
    assert (others(), fleet.active()) == (stay, "active"), fleet.said()


def test_verify_holds(fleet: Installed) -> None:
    """`fleet verify` ends with 0."""
    verified = fleet.run("fleet verify --worker w1301", timeout=PATIENCE)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_nothing_leaves_after_a_kill(fleet: Installed) -> None:
    """SIGKILL of supervisord: systemd starts the fleet again, and no packet of a worker's UID leaves meanwhile."""
    fleet.nothing_leaves_after("kill -KILL $(fleet supervisorctl pid)", PATIENCE, LOOK)


def test_stop_leaves_nothing(fleet: Installed) -> None:
    """`systemctl stop` takes all of it out of the kernel; the same prober is heard then (positive control)."""
    fleet.run("systemctl stop fleet", check=True, timeout=PATIENCE)
    left = "ip -oneline rule | grep uidrange; ip -oneline link show type wireguard; ip netns; nft list tables"
    found = fleet.run(f"{left}; ps -eo user= | grep -E '^(w13|netctl)'")
    assert (fleet.active(), found.stdout) == ("inactive", ""), fleet.said()
    with fleet.probed(fleet.workers[0].uid) as ear:
        until("the prober is heard", ear.says_more, PATIENCE)
