"""The ground that needs nothing: the fake kernel of tests/fakes.py, judged by its own insides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, TypeVar

from fleet.isolation import HOST as HOST_SPACE
from fleet.model import Fleet, Worker
from netctl.plan.operations import Operation
from netctl.plan.secrets import Key, Secret
from netctl.plan.things import Route, Space
from tests.contract.ground import CLIENTS, SERVERS
from tests.fakes import FakeKernel, after, with_fresh_link, without_link
from tests.paths import HOST, Attempt, ForeignRule, Paths, World

T = TypeVar("T")


class FakeGround:
    """See ground.Ground."""

    name = "fake"

    def __init__(self, isolation: str) -> None:
        self.isolation = isolation
        self._kernel = FakeKernel()
        for server in SERVERS:
            clients = frozenset(_secret(server, client).public() for client in CLIENTS)
            self._kernel.servers[self.key(server, 1).endpoint_host, 51820 + server] = (
                _secret(server, 0).public(),
                clients,
            )

    @property
    def wireguard(self) -> FakeKernel:
        return self._kernel

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(make())

    def kernel(self, fleet: Fleet) -> FakeKernel:
        return self._kernel

    def key(self, server: int, client: int) -> Key:
        return Key(
            private=_secret(server, client),
            address=IPv4Address(f"198.18.{server}.{10 + client}"),
            server_public=_secret(server, 0).public(),
            endpoint_host=f"203.0.113.{10 + server}",
            endpoint_port=51820 + server,
        )

    @contextlib.contextmanager
    def space(self, worker: Worker) -> Iterator[None]:
        kernel, own = self._kernel, Space(space=worker.space)
        if self.isolation == "netns":
            kernel.state = after(kernel.state, Operation(verb="add", thing=own))
        try:
            yield
        finally:
            kernel.state = after(kernel.state, Operation(verb="delete", thing=own))

    @contextlib.contextmanager
    def device(self, interface: str) -> Iterator[None]:
        kernel = self._kernel
        kernel.state = with_fresh_link(kernel.state, interface, kernel.backend.link_kind)
        try:
            yield
        finally:
            kernel.state = without_link(kernel.state, interface)

    def up(self, interface: str) -> None:
        kernel = self._kernel
        (link,) = (one for one in kernel.state.links if one.interface == interface)
        kernel.state = after(kernel.state, Operation(verb="up", thing=link))

    def lose(self, interface: str) -> None:
        (link,) = (one for one in self._kernel.state.links if one.interface == interface)
        self._kernel.state = without_link(self._kernel.state, interface, link.space)

    @contextlib.contextmanager
    def frozen(self, interface: str) -> Iterator[None]:
        self._kernel.hung.add(interface)
        try:
            yield
        finally:
            self._kernel.hung.discard(interface)

    def shown(self, interface: str, what: str) -> str:
        device = next(one for one in self._kernel.state.devices if one.interface == interface)
        if what == "private-key":
            return "(none)" if device.private is None else "(hidden)"
        if device.peer is None:
            return ""
        return (
            device.peer.public_key if what == "peers" else f"{device.peer.public_key}\t{' '.join(device.peer.allowed)}"
        )

    def add_peer(self, interface: str, public_key: str) -> None:
        self._kernel.strangers.setdefault(interface, []).append(public_key)

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        kernel = self._kernel
        there = Space(space=worker.space) in kernel.state.spaces
        space = worker.space if there else HOST_SPACE
        sent = Paths(kernel.state, World(rules=kernel.foreign_rules), space).leaving(Attempt(worker.uid))
        if sent is None or not isinstance(sent.source, IPv4Address):
            return None
        if sent.source == HOST:
            return HOST
        device = next((one for one in kernel.state.devices if one.interface == sent.interface), None)
        return sent.source if device is not None and kernel.answers(device) else None

    @contextlib.contextmanager
    def plant_foreign(self) -> Iterator[Callable[[], object]]:
        self._kernel.foreign_rules += (ForeignRule(priority=5000, uids=range(4000, 4002), table=999),)
        self._kernel.events.append("192.0.2.9")
        try:
            yield lambda: self._kernel.foreign_rules
        finally:
            self._kernel.foreign_rules = ()

    @contextlib.contextmanager
    def plant_rule(self, priority: int) -> Iterator[None]:
        self._kernel.claimed = ((f"an IPv4 rule of priority {priority} without protocol 77", "ip -4 rule show"),)
        try:
            yield
        finally:
            self._kernel.claimed = ()

    def lead_astray(self, worker: Worker) -> None:
        kernel = self._kernel
        kept = frozenset(one for one in kernel.state.routes if one.table != worker.table or one.interface is None)
        space = worker.space if self.isolation == "netns" else HOST_SPACE
        astray = Route(family=4, table=worker.table, interface="eth0", space=space)
        kernel.state = replace(kernel.state, routes=kept | {astray})

    def flush(self, what: str) -> None:
        kernel = self._kernel
        if what == "tables":
            kernel.state = replace(kernel.state, filters=frozenset(), gates=frozenset())
        else:
            kernel.state = replace(kernel.state, rules=frozenset())

    @contextlib.contextmanager
    def address_events(self) -> Iterator[list[str]]:
        heard: list[str] = []
        before = len(self._kernel.events)
        yield heard
        heard += self._kernel.events[before:]


def _secret(server: int, client: int) -> Secret:
    return Secret(bytes([server * 8, *[client] * 30, 64]))
