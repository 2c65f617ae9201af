"""What the contract suites stand on: one protocol, three grounds (see conftest.py for how one is chosen).

    fake        tests/fakes.py: a kernel in memory
    userspace   two network namespaces and wireguard-go at both ends
    kernel      the same with the kernel's WireGuard at both ends; in the vm tier alone

each also with `-netns` behind its name: a network namespace for each worker.

A new kind of kernel object gets its tests here once, and each ground a way to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from ipaddress import IPv4Address
from typing import Any, Protocol, TypeVar

from fleet import model
from fleet.model import Fleet, Worker
from netctl.host import Found
from netctl.plan.desired import Held
from netctl.plan.operations import Operation
from netctl.plan.secrets import Key
from netctl.plan.things import Device, Peer
from netctl.wireguard.contract import WireGuard

T = TypeVar("T")
SERVERS = (1, 2, 3)
CLIENTS = (1, 2, 3, 4, 5, 6)


class AnyKernel(Protocol):
    """The part of netctl.host.Host that the reconciler uses."""

    async def observe(self) -> Found: ...

    async def apply(self, operations: Sequence[Operation]) -> None: ...


class Ground(Protocol):
    """A host with VPN servers beyond its uplink, and a second tool to judge it by."""

    name: str
    isolation: str

    @property
    def wireguard(self) -> WireGuard: ...

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine inside the host's network."""
        ...

    def kernel(self, fleet: Fleet) -> AbstractAsyncContextManager[AnyKernel]:
        """The side that observes and applies; entered inside `call`."""
        ...

    def key(self, server: int, client: int) -> Key:
        """A key that SERVER knows."""
        ...

    def space(self, worker: Worker) -> AbstractContextManager[None]:
        """WORKER's own network namespace is there, where the isolation gives it one."""
        ...

    def device(self, interface: str) -> AbstractContextManager[None]:
        """A fresh device that is there; where nobody but a program can make it, that program runs."""
        ...

    def up(self, interface: str) -> None:
        """Set the link up."""
        ...

    def lose(self, interface: str) -> None:
        """The device goes, as if somebody deleted it; a fresh one comes where a program makes it."""
        ...

    def frozen(self, interface: str) -> AbstractContextManager[None] | None:
        """The device does not answer; None where one device alone cannot hang."""
        ...

    def shown(self, interface: str, what: str) -> str:
        """What `wg show INTERFACE WHAT` says: `peers`, `allowed-ips` or `private-key`."""
        ...

    def add_peer(self, interface: str, public_key: str) -> None:
        """Somebody else adds a peer for 192.0.2.0/24."""
        ...

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        """The address the world sees when WORKER's UID asks; None when nothing comes back."""
        ...

    def plant_foreign(self) -> AbstractContextManager[Callable[[], object]]:
        """Links, addresses, routes, rules and tables of somebody else; call it to see them as they are now."""
        ...

    def plant_rule(self, priority: int) -> AbstractContextManager[None]:
        """A rule of that priority without our protocol number."""
        ...

    def lead_astray(self, worker: Worker) -> None:
        """WORKER's table leads out of the uplink, under our protocol number."""
        ...

    def flush(self, what: str) -> None:
        """Somebody flushes `rules` or `tables` (nftables), all of them."""
        ...

    def address_events(self) -> AbstractContextManager[list[str]]:
        """Every address notification meanwhile in the host, and where the first worker is."""
        ...


def fleet_of(count: int, isolation: str = "uid") -> Fleet:
    """A fleet of COUNT workers."""
    return model.parse(
        f'isolation = "{isolation}"\n[workers]\ncount = {count}\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]',
        "test",
    )


def device_of(interface: str, key: Key) -> Device:
    """The device that KEY makes."""
    peer = Peer(
        public_key=key.server_public,
        preshared=key.preshared,
        keepalive_seconds=25,
        endpoint=(key.endpoint_host, key.endpoint_port),
    )
    return Device(interface=interface, private=key.private, peer=peer)


def held(key: Key, *, open_: bool = True) -> Held:
    """A slot that holds KEY."""
    return Held(key=key, endpoint=(key.endpoint_host, key.endpoint_port), open=open_)
