"""The host's own public addresses: a worker reaches them only through its tunnel.

From its own namespace the host's address is an ordinary internet address, which a worker may reach from its exit. In
the host's namespace the address is on `lo`, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.topology import HOST_ADDRESS, HOST_ADDRESS_V6, LAN_HOST
from tests.fleets import FREE
from tests.inside import Client, Ear, server, speaking
from tests.leak.probes import UPLINK
from tests.leak.scene import Scene

PORT = 4446
PUBLIC = (str(HOST_ADDRESS), str(HOST_ADDRESS_V6))


@pytest.fixture
def ear(scene: Scene) -> Iterator[Ear]:
    """Listeners on the host's public addresses, which report the senders."""
    argv = server(scene.lab, *(("tell", host, PORT) for host in PUBLIC))
    with speaking(scene.lab, "host", argv, "ready") as made:
        yield made


def knock(client: Client) -> None:
    """Send TCP and UDP to both addresses: plain, bound to the uplink and to loopback, from the host's own address."""
    for host in PUBLIC:
        ways: list[dict[str, object]] = [{}, {"device": UPLINK}, {"device": "lo"}, {"source": host, "freebind": True}]
        for way in ways:
            for kind in ("tcp", "udp"):
                client.ask(do=kind, host=host, port=PORT, timeout=1 if way == {} else 0.2, **way)


def came(ear: Ear, other: Client) -> set[str]:
    """The senders' addresses since the last call; a final packet from OTHER shows that all were heard."""
    assert "ok" in other.ask(do="tcp", host=PUBLIC[0], port=PORT, source=str(LAN_HOST))
    return {line.split()[2] for line in ear.before(str(LAN_HOST))}


def test_the_hosts_own_address_is_reached_from_the_exit_alone(scene: Scene, ear: Ear) -> None:
    """Sealed, nothing arrives; connected, from its own namespace, only packets from the exit's address arrive.

    The control: every kind arrives from a UID of no worker, from the host's own addresses.
    """
    holder, outside = scene.holder(), scene.client_of(scene.worker(), at=FREE)
    other = scene.client_of(FREE)
    knock(holder)
    knock(outside)
    assert came(ear, other) == set()
    tunnel = holder.ask(do="connect")["ok"]
    knock(holder)
    knock(outside)
    exits = {tunnel["exit_address"], tunnel["exit_address_v6"]}
    assert came(ear, other) == (exits if scene.isolated else set())
    knock(other)
    unheard = {(kind, host) for kind in ("tcp", "udp") for host in PUBLIC}
    while unheard:
        kind, _, peer = ear.lines(1)[0].split()
        unheard.discard((kind, peer))
    outside.kill()
    other.kill()
