"""Services of a real host change its network while a fleet with isolation uid works there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest

from lab.events import AddressListener
from lab.topology import HOST_ADDRESS
from tests.host.events import EVENTS, RARE
from tests.host.installed import Installed
from tests.host.machine import UPLINK
from tests.waiting import until

OTHER_ADDRESS = "198.51.100.12"
WITHOUT_DROP_IN = "rm -f /etc/systemd/networkd.conf.d/50-fleet.conf && systemctl restart systemd-networkd"
RECONFIGURE = f"networkctl reconfigure {UPLINK}"
NETWORK_MANAGER = f"""[connection]
id=up
type=ethernet
interface-name={UPLINK}
[ipv4]
method=auto
[ipv6]
method=link-local
"""


@pytest.fixture(scope="module")
def fleet(host: Installed) -> Iterator[Installed]:
    """A running fleet in isolation uid; every worker has handed in a loop."""
    host.run("systemctl stop fleet", check=True)
    host.configure({"": {"isolation": "uid"}})
    host.run("systemctl start fleet", check=True)
    host.wait_for_loops()
    host.began = datetime.now(timezone.utc)
    yield host
    host.run("systemctl stop fleet", check=True)
    host.configure()  # the files of this tier share the machine


@pytest.fixture(scope="module")
def usual(fleet: Installed) -> dict[str, str]:
    """The doctor's verdicts while nothing happens."""
    return fleet.verdicts()


@pytest.mark.parametrize("what", [*EVENTS, *(pytest.param(name, marks=pytest.mark.whole_host) for name in RARE)])
def test_nothing_leaves(fleet: Installed, usual: dict[str, str], pytestconfig: pytest.Config, what: str) -> None:
    """During the event nothing of a worker's UID leaves, and the layers that confine it are restored.

    Before a release the doctor runs each time, and its verdicts are as before.
    """
    with fleet.probed(fleet.workers[0].uid) as ear:
        for command in {**EVENTS, **RARE}[what]:
            fleet.run(command, check=True)
        fleet.wait_until_held()
        assert not fleet.escaped(ear)
    if pytestconfig.option.whole_host:
        assert fleet.verdicts() == usual


@contextlib.contextmanager
def monitored(fleet: Installed) -> Iterator[Callable[[], int]]:
    """Tells how many of the fleet's rules were deleted so far, by any program."""
    heard = fleet.machine.root / "root/rules"
    with fleet.beside("ip monitor rule", "--property=StandardOutput=truncate:/root/rules"):
        mark = "ip rule add priority 31000 lookup main; ip rule delete priority 31000"
        until("the monitor hears a rule", lambda: fleet.run(mark) and "31000:" in heard.read_text(), 30)
        yield lambda: sum("Deleted" in one and "proto 77" in one for one in heard.read_text().splitlines())


def reconfigure(fleet: Installed) -> None:
    """Make networkd remove the uplink's address and request it again."""
    with AddressListener(fleet.machine.name) as listener:
        began = datetime.now(timezone.utc)
        fleet.run(RECONFIGURE, check=True)
        until("the address has come again", lambda: len(listener.between(began, datetime.now(timezone.utc))) > 1, 60)
    until("networkd has done", lambda: "configured" in fleet.run(f"networkctl --no-legend list {UPLINK}").stdout, 60)


def test_networkd_leaves_the_rules_alone_once_it_is_told(fleet: Installed) -> None:
    """Reconfigured without the drop-in, networkd deletes the fleet's rules, with it none; the doctor reports which."""
    fleet.run(WITHOUT_DROP_IN, check=True)
    assert fleet.doctor()["networkd"][0] == "warning"
    with monitored(fleet) as deleted:
        reconfigure(fleet)
        until("rules are deleted", deleted, 30)
    fleet.wait_until_held()
    assert "fixed networkd" in fleet.run("fleet doctor --fix").stderr
    fleet.run("systemctl restart systemd-networkd", check=True)
    with monitored(fleet) as deleted:
        reconfigure(fleet)
        assert deleted() == 0
    fleet.wait_until_held()
    assert fleet.doctor()["networkd"][0] == "ok"
    fleet.run(WITHOUT_DROP_IN, check=True)


@pytest.mark.whole_host
def test_a_later_file_of_the_operators_is_named(fleet: Installed) -> None:
    """If a file overrides the drop-in, networkd deletes rules, netctl restores them; the doctor names the file."""
    later = "etc/systemd/networkd.conf.d/90-own.conf"
    fleet.run("fleet doctor --fix", check=True)
    fleet.machine.write(later, "[Network]\nManageForeignRoutes=yes\nManageForeignRoutingPolicyRules=yes\n")
    fleet.run("systemctl restart systemd-networkd", check=True)
    verdict, seen = fleet.doctor()["networkd"]
    assert verdict == "warning" and f"ManageForeignRoutes in /{later}" in seen, seen
    with monitored(fleet) as deleted:
        reconfigure(fleet)
        until("rules are deleted", deleted, 30)
    fleet.wait_until_held()
    fleet.run(f"rm /{later} && {WITHOUT_DROP_IN}", check=True)


@pytest.mark.parametrize("drop_in", [False, pytest.param(True, marks=pytest.mark.whole_host)])
def test_another_address_of_the_host(fleet: Installed, *, drop_in: bool) -> None:
    """The DHCP server gives another address: nothing leaves, and the loops go on from the new one."""
    if drop_in:
        fleet.run("fleet doctor --fix && systemctl restart systemd-networkd", check=True)
    with fleet.probed(fleet.workers[0].uid) as ear:
        fleet.access.serve(OTHER_ADDRESS)
        fleet.run(RECONFIGURE, check=True)
        until("the host has it", lambda: fleet.address() == OTHER_ADDRESS, 30, fleet.address)
        fleet.wait_until_held()
        assert not fleet.escaped(ear)
    fleet.wait_for_loops()
    fleet.access.serve()
    fleet.run(RECONFIGURE, check=True)
    until("it has its own again", lambda: fleet.address() == str(HOST_ADDRESS), 60, fleet.address)
    if drop_in:
        assert fleet.doctor()["networkd"][0] == "ok"
        fleet.run(WITHOUT_DROP_IN, check=True)


@pytest.mark.whole_host
def test_network_manager_in_the_place_of_networkd(fleet: Installed, usual: dict[str, str]) -> None:
    """NetworkManager starts, gets the doctor's drop-in, is restarted and reloaded: nothing leaves, loops are good."""
    fleet.machine.write("etc/NetworkManager/system-connections/up.nmconnection", NETWORK_MANAGER)
    manage = f"[device-up]\nmatch-device=interface-name:{UPLINK}\nmanaged=1\n"
    fleet.machine.write("etc/NetworkManager/conf.d/host.conf", manage)
    fleet.run("chmod 600 /etc/NetworkManager/system-connections/*", check=True)
    with fleet.probed(fleet.workers[0].uid) as ear:
        fleet.run("systemctl stop systemd-networkd.socket systemd-networkd; systemctl start NetworkManager", check=True)
        connected = f"nmcli --terse device | grep '^{UPLINK}:ethernet:connected'"
        until(
            "it manages the uplink", lambda: fleet.run(connected).stdout, 60, lambda: fleet.run("nmcli device").stdout
        )
        assert fleet.verdicts() == {**usual, "networkmanager": "warning", "networkd": "ok"}
        fleet.run("fleet doctor --fix && systemctl reload NetworkManager", check=True)
        assert fleet.verdicts() == {**usual, "networkd": "ok"}
        for command in ("systemctl restart NetworkManager", "nmcli general reload", "nmcli connection up up"):
            fleet.run(command, check=True)
            until("it manages the uplink", lambda: fleet.run(connected).stdout, 60)
        fleet.wait_until_held()
        assert not fleet.escaped(ear)
    fleet.wait_for_loops()
    fleet.run("systemctl stop NetworkManager; rm /etc/NetworkManager/conf.d/50-fleet.conf", check=True)
    fleet.run(WITHOUT_DROP_IN, check=True)
    assert fleet.verdicts() == usual


IMAGE = """mkdir -p /tmp/i/bin /tmp/i/lib64 /tmp/i/lib/x86_64-linux-gnu && cp /bin/sleep /tmp/i/bin
cp -L /lib64/ld-linux-x86-64.so.2 /tmp/i/lib64; cp -L /lib/x86_64-linux-gnu/libc.so.6 /tmp/i/lib/x86_64-linux-gnu
tar -C /tmp/i -c . | docker import - sleep"""
CHURN = """for i in 1 2 3; do
docker rm -f c$i; docker network rm n$i
docker network create n$i && docker run -d --name c$i --network n$i -p 808$i:80 sleep /bin/sleep 99 || exit 1
docker rm -f c$i && docker network rm n$i || exit 1; done"""


@pytest.mark.whole_host
def test_containers_come_and_go(fleet: Installed, usual: dict[str, str]) -> None:
    """While a loop runs, Docker's containers and networks come and go: nothing leaves, and no page is affected."""
    uid = fleet.workers[0].uid
    fleet.run(f"systemctl start docker && {IMAGE}", check=True)
    fleet.machine.write("root/churn.sh", CHURN)
    with AddressListener(fleet.machine.name) as listener, fleet.probed(uid) as ear:
        with fleet.beside("sh /root/churn.sh", "--property=Restart=always", "--property=StartLimitIntervalSec=0"):
            until("addresses come and go", lambda: listener.between(fleet.began, datetime.now(timezone.utc)), 60)
            loops = fleet.wait_for_loops()
        assert fleet.verdicts() == usual
        fleet.run("systemctl stop docker docker.socket containerd", check=True)
        fleet.wait_until_held()
        assert not fleet.escaped(ear)
        for one in loops:
            assert listener.between(one.started, one.finished) and one.network_changed == 0, one


@pytest.mark.whole_host
def test_firewalld_is_told(fleet: Installed, usual: dict[str, str]) -> None:
    """The doctor says what firewalld's reload may cost, and names its reverse-path filter; nothing leaves meanwhile."""
    with fleet.probed(fleet.workers[0].uid) as ear:
        fleet.run("systemctl start firewalld && firewall-cmd --complete-reload", check=True)
        found = fleet.doctor()
        assert "while it reloads" in found["firewalls"][1], found
        told = {name: verdict for name, (verdict, _) in found.items() if usual[name] != verdict}
        assert told == {"filters": "warning"}, found
        fleet.run("systemctl stop firewalld", check=True)
        fleet.wait_until_held()
        assert not fleet.escaped(ear)
    assert fleet.verdicts() == usual
    fleet.wait_for_loops()


@pytest.mark.whole_host
def test_ufw_that_lets_nothing_out(fleet: Installed, usual: dict[str, str]) -> None:
    """The doctor names it and the command that helps; after that command the doctor says ok, and loops are good."""
    fleet.run("ufw --force enable", check=True)
    assert fleet.verdicts() == usual
    fleet.run("ufw default deny outgoing && ufw reload", check=True)
    assert fleet.verdicts() == {**usual, "firewalls": "warning"}
    fleet.run("ufw allow out proto udp to any port 51820", check=True)
    assert fleet.doctor()["firewalls"][0] == "warning"
    for worker in fleet.workers:
        fleet.run(f"ufw allow out on {worker.interface}", check=True)
    assert fleet.verdicts() == usual
    fleet.wait_for_loops()
    fleet.run("ufw --force disable && ufw --force reset", check=True)
    fleet.began = datetime.now(timezone.utc)  # what failed before was to fail


@pytest.mark.whole_host
def test_verify_holds(fleet: Installed) -> None:
    """`fleet verify` exits with 0 on a host that has no IPv6."""
    verified = fleet.run("fleet verify --worker w1301", timeout=300)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_all_loops_meanwhile(fleet: Installed) -> None:
    """Every loop since the first became good, and no page lost a request to a network change."""
    fleet.wait_for_loops()
    for result in (one for worker in fleet.workers for one in fleet.results(worker) if one.started > fleet.began):
        assert (result.ok, result.network_changed) == (True, 0), result
