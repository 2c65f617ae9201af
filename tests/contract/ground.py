"""What the contract suites stand on: a host with VPN servers beyond its uplink, and a second tool to judge it by.

    fake        fake_ground.py: a kernel in memory
    userspace   wired.py: two network namespaces and wireguard-go at both ends
    kernel      the same with the kernel's WireGuard at both ends; in the vm tier alone

each also with `-netns` after its name: a network namespace for each worker (conftest.py has how one is chosen).

A new kind of kernel object gets its tests here once, and each ground a way to show it.
"""

from __future__ import annotations

import base64
import hashlib
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, TypeAlias

from fleet.model import Fleet
from fleet.operate import configuration
from netctl.plan.desired import Held
from netctl.plan.key import Key, Secret
from netctl.plan.things import Device, Peer

if TYPE_CHECKING:
    from netctl.host import Host
    from tests.contract.fake_ground import FakeGround
    from tests.contract.wired import Wired
    from tests.fakes import FakeKernel

Ground: TypeAlias = "FakeGround | Wired"
AnyHost: TypeAlias = "FakeKernel | Host"
SERVERS = (1, 2, 3)
CLIENTS = (1, 2, 3, 4, 5, 6)


def secret(name: str) -> Secret:
    """A private key that belongs to that name."""
    return Secret.parse_private(base64.b64encode(hashlib.sha256(name.encode()).digest()).decode())


def key(server: int, client: int) -> Key:
    """A key that SERVER knows."""
    return Key(
        private=secret(f"client {server} {client}"),
        address=IPv4Address(f"198.18.{server}.{10 + client}"),
        server_public=secret(f"server {server}").public(),
        server=f"203.0.113.{10 + server}",
        port=51820 + server,
    )


def fleet_of(count: int, isolation: str = "uid") -> Fleet:
    """A fleet of COUNT workers."""
    return configuration.parse(
        f'isolation = "{isolation}"\n[workers]\ncount = {count}\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]',
        "test",
    )


def device_of(interface: str, made_of: Key) -> Device:
    """The device that a key makes."""
    peer = Peer(
        public_key=made_of.server_public,
        preshared=made_of.preshared,
        keepalive_seconds=25,
        endpoint=made_of.endpoint,
    )
    return Device(interface=interface, private=made_of.private, peer=peer)


def held(given: Key, *, open_: bool = True) -> Held:
    """A slot that holds a key."""
    return Held(key=given, endpoint=given.endpoint, open=open_)
