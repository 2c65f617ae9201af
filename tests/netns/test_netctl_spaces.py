"""A network namespace for each worker: what exists only there, and what happens after its name is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.machine import spaces
from lab.net import Lab
from tests.fleets import Rig, running
from tests.waiting import frozen, until

SITE = "203.0.113.80"
LOST = {
    "every route": "ip route flush table all; ip -6 route flush table all",
    "the link": "ip link set lo down",
    "the IPv4 address": "ip address delete 127.0.0.1/8 dev lo",
    "the IPv6 address": "ip address delete ::1/128 dev lo",
    "IPv6": "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
    "the first rules": "ip rule delete priority 0; ip -6 rule delete priority 0",
}
TO_ITSELF = """
import socket, sys
for one in (("127.0.0.1", int(sys.argv[1])), ("::1", int(sys.argv[1]))):
    with socket.create_server(one, family=socket.AF_INET6 if one[0] == "::1" else socket.AF_INET):
        socket.create_connection(one, timeout=1).close()
"""
NET_ADMIN, SYS_ADMIN = 1 << 12, 1 << 21


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Two workers' slots, each with a namespace."""
    with running(lab, 2, changes={"netctl": {"key_cooldown_seconds": 0.1}}, isolation="netns") as made:
        yield made


def masks(pid: int, name: str) -> set[int]:
    """A capability set of every thread of the process, as the kernel shows it."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return {int(line.split()[1], 16) for text in texts for line in text.splitlines() if line.startswith(f"{name}:")}


def test_the_capability_to_enter_is_never_in_effect_at_rest(rig: Rig) -> None:
    """CAP_SYS_ADMIN is only permitted: no thread of netctl has it effective, and no child inherits it."""
    client = rig.client()
    assert "ok" in client.ask(do="connect")  # every thread has been inside by now
    client.kill()
    rig.wait_until_sealed()
    assert rig.netctl
    assert masks(rig.netctl.pid, "CapEff") == {NET_ADMIN}
    assert masks(rig.netctl.pid, "CapPrm") == {NET_ADMIN | SYS_ADMIN}, "the control: it is there"
    assert masks(rig.netctl.pid, "CapInh") == masks(rig.netctl.pid, "CapAmb") == {NET_ADMIN}


def test_threads_are_back_in_the_hosts_namespace(rig: Rig) -> None:
    """Between requests every thread of netctl is in the host's namespace."""
    assert rig.netctl
    tasks = list(Path(f"/proc/{rig.netctl.pid}/task").glob("*/ns/net"))
    host = rig.host(["readlink", "/proc/self/ns/net"], check=True).stdout.strip()
    assert len(tasks) > 2
    assert {str(path.readlink()) for path in tasks} == {host}


def test_nothing_of_a_worker_is_in_the_hosts_namespace(rig: Rig) -> None:
    """No link, address, rule or sysctl there; the table that holds the UIDs back has no gate open, with a tunnel up."""
    client = rig.client()
    assert "ok" in client.ask(do="connect")
    listed = rig.host(["sh", "-c", "ip -o link; ip -o address; ip rule; ip -6 rule"], check=True).stdout
    assert "wg10" not in listed and "10.255." not in listed and "proto 77" not in listed
    assert "elements" not in rig.host(["nft", "list", "set", "inet", "fleet", "open"], check=True).stdout
    assert "elements" in rig.there(["nft", "list", "set", "inet", "fleet", "open"], check=True).stdout, "the control"
    client.kill()


def test_the_tunnels_own_socket_stays_in_the_host(rig: Rig) -> None:
    """WireGuard's UDP leaves by the uplink; in the worker's namespace there is no socket of it."""
    ports = rig.host(["wg", "show", rig.worker().interface, "listen-port"], check=True).stdout.strip()
    client = rig.client()
    assert "ok" in client.ask(do="connect")
    port = rig.host(["wg", "show", rig.worker().interface, "listen-port"], check=True).stdout.strip() or ports
    assert f":{port} " in rig.host(["ss", "-unaH"], check=True).stdout
    assert f":{port} " not in rig.there(["ss", "-unaH"], check=True).stdout
    client.kill()


@pytest.mark.parametrize("what", LOST)
def test_the_loopback_is_brought_back(rig: Rig, what: str) -> None:
    """A worker talks to its browser over loopback: whatever part of it is removed is restored within seconds.

    The control: while netctl is stopped it is not. The tunnel stays.
    """
    client = rig.client()
    assert "ok" in client.ask(do="connect")
    to_itself = rig.as_worker(
        rig.worker(), "/usr/bin/python3", "-I", "-c", TO_ITSELF, str(rig.worker().browser_ports.devtools)
    )
    assert rig.there(to_itself).returncode == 0 and rig.netctl
    with frozen(rig.netctl.pid):
        rig.there(["sh", "-c", LOST[what]], check=True)
        assert rig.there(to_itself).returncode != 0
    until("it speaks to itself", lambda: rig.there(to_itself).returncode == 0, 15)
    rig.wait_until_settled(15)
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)
    client.kill()
    rig.wait_until_sealed()


def test_a_tunnel_outlives_its_namespaces_name(rig: Rig) -> None:
    """`ip netns delete`: the tunnel in use goes on; the worker's next launch makes another, and gets a tunnel there."""
    worker, path = rig.worker(), rig.paths.space(rig.worker())
    client = rig.client()
    assert "ok" in client.ask(do="connect")
    before = path.stat().st_ino
    spaces.remove(path)
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)
    assert "ok" in client.ask(do="rotate")
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)
    client.kill()
    rig.wait_until_sealed()
    spaces.make(path)  # as the launcher does
    assert path.stat().st_ino != before
    old = rig.devices[worker.interface]
    client = rig.client()
    client.send(do="connect")
    # The device's namespace can no longer be entered: netctl ends wireguard-go, and the supervisor starts another.
    until("the old device is ended", lambda: old.poll() is not None, 10)
    rig.start_wireguard(worker)
    assert "ok" in client.answer()
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)
    assert worker.interface in rig.there(["ip", "-o", "link"], check=True).stdout
    client.kill()
    rig.wait_until_settled(15)


def test_without_a_namespace_it_says_who_makes_one(rig: Rig) -> None:
    """netctl starts although a name is missing: that worker's request is refused with a hint, its neighbour's is not.

    However often the worker asks, no key is taken.
    """
    rig.kill_netctl()
    path = rig.paths.space(rig.worker())
    spaces.remove(path)
    rig.start_netctl()
    first, second = rig.client_of(rig.worker(), at=rig.worker(1)), rig.client(1)
    for _ in range(3):
        refused = first.ask(do="connect")
        assert "namespace" in refused["message"], refused
    assert rig.status()["pool"]["leased"] == 0
    restart = f"what to do: fleet supervisorctl restart worker:{rig.worker().name}"
    assert restart in next(line for line in rig.log.read_text().splitlines()[::-1] if '"slot.not_' in line)
    assert "ok" in second.ask(do="connect")
    first.kill()
    spaces.make(path)
    rig.devices[rig.worker().interface].kill()
    rig.devices[rig.worker().interface].wait(10)
    rig.start_wireguard(rig.worker())
    client = rig.client()
    until("connected", lambda: "ok" in client.ask(do="connect"), 20)
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)
    client.kill()
    second.kill()


def test_cleanup_takes_the_names_away(rig: Rig) -> None:
    """The last test of this file: no object and no name is left in the host; a second cleanup has nothing to do."""
    rig.kill_netctl()
    done = rig.command("cleanup", check=True)
    assert "ip netns delete fleet-w1101" in done.stdout
    assert spaces.names(rig.paths.spaces) == frozenset()
    assert rig.command("cleanup", "--json", check=True).stdout.strip() == "[]"
