"""The lab as data: names and numbers fit the kernel, and collide with nothing of a worker's."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from fleet.errors import UsageError
from fleet.model import Worker
from fleet.operate.configuration import parse
from lab.net import Lab
from lab.run import settings, toml
from lab.topology import ACCESS, CORE, MOST_KEYS, MOST_SERVERS, UPLINK, Topology


def test_interface_names_fit_the_kernel_and_are_no_workers() -> None:
    """At most 15 characters, different for every server, and never the name of a worker's interface."""
    names = [server.interface for server in Topology(name="w" * 10, servers=MOST_SERVERS, keys=1).vpn]
    assert max(map(len, names)) <= 15
    assert len(set(names)) == MOST_SERVERS
    for name in ("wg", "wg1", "wg101"):
        (server,) = Topology(name=name, servers=1).vpn
        assert Worker.of_interface(server.interface) is None


def test_the_largest_lab_has_no_address_twice() -> None:
    """Exits, tunnels and the shop stay apart up to the last server and key."""
    topology = Topology(name="lab", servers=MOST_SERVERS, keys=MOST_KEYS)
    clients = [server.client(number) for server in topology.vpn for number in range(1, MOST_KEYS + 1)]
    others = [address for both in topology.on_core.values() for address in both]
    ports = [ip_interface(address).ip for address in (*CORE, *ACCESS, *UPLINK, *others)]
    assert len(set(clients)) == len(clients)
    assert len(set(ports)) == len(ports)
    assert all(server.client(MOST_KEYS) in server.network for server in topology.vpn)


@pytest.mark.parametrize(("name", "servers", "keys"), [("Lab", 3, 10), ("a-b", 3, 10), ("lab", 0, 10), ("lab", 3, 999)])
def test_impossible_labs_are_refused(name: str, servers: int, keys: int) -> None:
    """A wrong name or number is a mistake of the command line."""
    with pytest.raises(UsageError):
        Topology(name=name, servers=servers, keys=keys)


def test_the_labs_fleet_toml_is_one_that_the_fleet_reads() -> None:
    """What the lab writes is read back with its workers, Korean query and changes."""
    tables = settings(Lab("lab"), 2, first_uid=1301, changes={"workers": {"deny_netlink": False}})
    made = parse(toml(tables), "fleet.toml")
    assert [worker.uid for worker in made.members] == [1301, 1302]
    assert not made.workers.deny_netlink
    assert made.task.options["query"] == "커피"
