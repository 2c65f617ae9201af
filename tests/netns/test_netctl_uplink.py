"""The host's own route to the servers: its address changes under tunnels in use, or it has no route at all."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lab import run
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.fleets import Rig, running
from tests.waiting import until

CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}, "wireguard": {"handshake_timeout_seconds": 2}}
ADDRESS, OTHER, GATEWAY = "198.51.100.10/24", "198.51.100.77/24", "198.51.100.1"
TRY_SECONDS, CONTROL_TRIES, PATIENCE_SECONDS = 1, 3, 60


@pytest.fixture
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """One worker's slot; at the end the host's address and route are restored."""
    with running(lab, 1, changes=CHANGES, isolation=isolation) as made:
        yield made
        move(made, OTHER, ADDRESS)


def move(rig: Rig, old: str, new: str) -> None:
    """Replace the uplink's address OLD by NEW, as after a DHCP server's answer."""
    rig.host(["ip", "address", "del", old, "dev", "uplink"])
    rig.host(["ip", "address", "replace", new, "dev", "uplink"], check=True)
    rig.host(["ip", "route", "replace", "default", "via", GATEWAY, "dev", "uplink"], check=True)


def test_tunnels_follow_the_hosts_address(rig: Rig) -> None:
    """A tunnel in use works again, with the same lease, as soon as netctl learns the host's new address.

    The control: while netctl is stopped nothing passes.
    """
    client = rig.client()
    assert client.ask(do="connect")["ok"]
    lease = rig.slot()["generation"]

    def passes() -> bool:
        return "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, timeout=TRY_SECONDS)

    assert passes()
    assert rig.netctl
    rig.netctl.send_signal(signal.SIGSTOP)
    move(rig, ADDRESS, OTHER)
    assert not any(passes() for _ in range(CONTROL_TRIES))
    rig.netctl.send_signal(signal.SIGCONT)
    until("the tunnel passes", passes, PATIENCE_SECONDS)
    assert (rig.slot()["state"], rig.slot()["generation"]) == ("connected", lease)
    assert rig.devices[rig.worker().interface].poll() is None


def test_no_way_is_no_silent_server(rig: Rig) -> None:
    """No route has its own error; no server is put aside and no device replaced; with a route the next try works."""
    client = rig.client()
    rig.host(["ip", "route", "del", "default"], check=True)
    said = client.ask(do="connect")
    assert said["error"] == "NoWay" and "no way to 203.0.113.1" in said["message"], said
    move(rig, OTHER, ADDRESS)
    assert client.ask(do="connect")["ok"]
    assert rig.devices[rig.worker().interface].poll() is None and not rig.status()["pool"]["servers_aside"]


def test_who_hears_nothing_is_told_that_there_is_no_way(rig: Rig) -> None:
    """A worker whose page did not finish is told that this host has no route, not that its tunnel is fine."""
    client = rig.client()
    assert client.ask(do="connect")["ok"] and "ok" in client.ask(do="stuck")
    rig.host(["ip", "route", "del", "default"], check=True)
    assert client.ask(do="stuck")["error"] == "NoWay"
    move(rig, OTHER, ADDRESS)
    assert "ok" in client.ask(do="stuck")
