"""A disk that fills under a fleet of isolation uid: what cannot be written waits, nothing leaves, no result is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest

from tests.host.installed import Installed
from tests.waiting import until

SMALL = "mkdir -p /small && mount -t tmpfs -o mode=755,size=24m small /small"
ONTO = "mkdir -p {0} && cp --archive {0} /small/{1} && mount --bind /small/{1} {0}"
FILL = "while :; do head -c 1m /dev/zero >>/small/filler; sleep 0.05; done 2>/dev/null\n"
"""What is freed meanwhile, it takes."""
WAITING_SECONDS = 20
"""Three times as long as a loop and its pause."""
PIDS = "fleet supervisorctl pid; fleet supervisorctl pid netctl"


@contextmanager
def small_disk(fleet: Installed, *folders: str) -> Iterator[None]:
    """While entered, FOLDERS are on a small separate disk; the fleet has started and done a loop there."""
    binds = [ONTO.format(folder, number) for number, folder in enumerate(folders)]
    fleet.run(" && ".join(["systemctl stop fleet", SMALL, *binds]), check=True)
    fleet.machine.write("root/fill.sh", FILL)
    try:
        fleet.run("systemctl start fleet", check=True)
        fleet.wait_for_loops()
        yield
    finally:
        fleet.run(f"systemctl stop fleet; umount {' '.join(folders)} /small", check=True)


@contextmanager
def full(fleet: Installed) -> Iterator[None]:
    """While entered, that disk is full."""
    with fleet.beside("sh /root/fill.sh"):
        until("it is full", lambda: fleet.run("df --output=avail /small").stdout.split()[-1] == "0", 30)
        yield
    fleet.run("rm /small/filler", check=True)


def seconds_since_a_loop(fleet: Installed) -> float:
    """How long ago the last loop of any worker ended."""
    ends = (one.finished for worker in fleet.workers for one in fleet.results(worker))
    return (datetime.now(timezone.utc) - max(ends)).total_seconds()


def none_is_missing(fleet: Installed) -> None:
    """Assert that every loop since the first has its result, and is good."""
    for worker in fleet.workers:
        found = sorted((one.loop, one.ok) for one in fleet.results(worker))
        assert found == [(number, True) for number in range(found[0][0], found[-1][0] + 1)]


@pytest.fixture(scope="module")
def fleet(host: Installed) -> Iterator[Installed]:
    """A fleet with isolation uid."""
    host.configure({"": {"isolation": "uid"}})
    yield host
    host.configure()


@pytest.mark.whole_host
def test_keys_results_and_logs_without_room(fleet: Installed) -> None:
    """All programs keep running, nothing leaves, status and doctor name the folders; with room again loops are good."""
    with small_disk(fleet, "/var/lib/fleet", "/var/log/fleet"):
        before = fleet.run(PIDS, check=True).stdout
        with fleet.probed(fleet.workers[0].uid) as ear:
            with full(fleet):
                until("no loop ends any more", lambda: seconds_since_a_loop(fleet) > WAITING_SECONDS, 120)
                told = fleet.run("fleet status").stdout
                assert "! /var/lib/fleet is full" in told and "! /var/log/fleet is full: nothing is logged" in told
                assert fleet.doctor()["room"] == ("error", "0 MiB are free for /var/lib/fleet")
            fleet.wait_for_loops()
            assert fleet.run(PIDS, check=True).stdout == before
            fleet.wait_until_held()
            assert not fleet.escaped(ear)
        none_is_missing(fleet)


@pytest.mark.whole_host
def test_a_start_without_room_frees_no_uid(fleet: Installed) -> None:
    """Killed on a full disk, the fleet cannot start, and names the file; nothing leaves before it is up again."""
    with small_disk(fleet, "/var/lib/fleet", "/var/log/fleet"), fleet.probed(fleet.workers[0].uid) as ear:
        with full(fleet):
            fleet.run("kill -KILL $(fleet supervisorctl pid)", check=True)
            until("it is tried twice", lambda: fleet.restarts() > 1, 120, fleet.said)
            assert "/var/lib/fleet/netctl/keys.db cannot be used" in fleet.said()
            assert not fleet.escaped(ear), fleet.said()
        until("active", lambda: fleet.active() == "active", 120, fleet.said)
        assert not fleet.escaped(ear), fleet.said()
        fleet.wait_for_loops()


@pytest.mark.whole_host
def test_a_result_waits_for_room(fleet: Installed) -> None:
    """The worker logs which disk is full, and begins no other loop; its result is complete once there is room."""
    with small_disk(fleet, "/var/lib/fleet/workers"):
        log = fleet.machine.seen("var/log/fleet/w1301.log")
        with full(fleet):
            until("it waits", lambda: "disk.full" in log.read_text(), 60, lambda: log.read_text()[-2000:])
            last = log.read_text().splitlines()[-1]
            assert '"folder": "/var/lib/fleet/workers/w1301/spool"' in last and '"stage": "loop"' in last
        fleet.wait_for_loops()
        none_is_missing(fleet)
