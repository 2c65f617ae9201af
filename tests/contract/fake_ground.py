"""The ground without requirements: the fake kernel of tests/fakes.py, checked by its own state. See wired.Wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, TypeVar

from fleet.isolation import HOST as HOST_SPACE
from fleet.model import Fleet, Worker
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.plan.things import Link, Route, Space
from tests.contract.ground import CLIENTS, SERVERS, key
from tests.fakes import FakeKernel, after, with_fresh_link, without_link
from tests.paths import HOST, Attempt, ForeignRule, Paths

T = TypeVar("T")


class FakeGround:
    def __init__(self, isolation: str) -> None:
        self.name, self.isolation = "fake", isolation
        self.wireguard = FakeKernel()
        for server in SERVERS:
            keys = [key(server, client) for client in CLIENTS]
            clients = frozenset(one.private.public() for one in keys)
            self.wireguard.servers[keys[0].endpoint] = keys[0].server_public, clients

    @property
    def _state(self) -> State:
        return self.wireguard.state

    @_state.setter
    def _state(self, state: State) -> None:
        self.wireguard.state = state

    def _link(self, interface: str) -> Link:
        (found,) = (one for one in self._state.links if one.interface == interface)
        return found

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(make())

    def kernel(self, fleet: Fleet) -> FakeKernel:
        return self.wireguard

    @contextlib.contextmanager
    def space(self, worker: Worker) -> Iterator[None]:
        own = Space(space=worker.space)
        if self.isolation == "netns":
            self._state = after(self._state, Operation(verb="add", thing=own))
        try:
            yield
        finally:
            self._state = after(self._state, Operation(verb="delete", thing=own))

    @contextlib.contextmanager
    def device(self, interface: str) -> Iterator[None]:
        self._state = with_fresh_link(self._state, interface, self.wireguard.backend.link_kind)
        try:
            yield
        finally:
            self._state = without_link(self._state, interface)

    def up(self, interface: str) -> None:
        self._state = after(self._state, Operation(verb="up", thing=self._link(interface)))

    def lose(self, interface: str) -> None:
        self._state = without_link(self._state, interface, self._link(interface).space)

    @contextlib.contextmanager
    def frozen(self, interface: str) -> Iterator[None]:
        self.wireguard.hung.add(interface)
        try:
            yield
        finally:
            self.wireguard.hung.discard(interface)

    def shown(self, interface: str, what: str) -> str:
        device = next(one for one in self._state.devices if one.interface == interface)
        if what == "private-key":
            return "(none)" if device.private is None else "(hidden)"
        if device.peer is None:
            return ""
        allowed = f"{device.peer.public_key}\t{' '.join(device.peer.allowed) or '(none)'}"
        return device.peer.public_key if what == "peers" else allowed

    def add_peer(self, interface: str, public_key: str) -> None:
        self.wireguard.strangers.setdefault(interface, []).append(public_key)

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        there = Space(space=worker.space) in self._state.spaces
        ways = Paths(self._state, self.wireguard.foreign_rules, worker.space if there else HOST_SPACE)
        sent = ways.leaving(Attempt(worker.uid))
        if sent is None or not isinstance(sent.source, IPv4Address):
            return None
        device = next((one for one in self._state.devices if one.interface == sent.interface), None)
        answered = sent.source == HOST or (device is not None and self.wireguard.answers(device))
        return sent.source if answered else None

    @contextlib.contextmanager
    def plant_foreign(self) -> Iterator[Callable[[], object]]:
        self.wireguard.foreign_rules += (ForeignRule(priority=5000, uids=range(4000, 4002), table=999),)
        self.wireguard.events.append("192.0.2.9")
        try:
            yield lambda: self.wireguard.foreign_rules
        finally:
            self.wireguard.foreign_rules = ()

    @contextlib.contextmanager
    def plant_rule(self, priority: int) -> Iterator[None]:
        self.wireguard.claimed = ((f"an IPv4 rule of priority {priority} without protocol 77", "ip -4 rule show"),)
        try:
            yield
        finally:
            self.wireguard.claimed = ()

    def lead_astray(self, worker: Worker) -> None:
        kept = frozenset(one for one in self._state.routes if one.table != worker.table or one.interface is None)
        space = worker.space if self.isolation == "netns" else HOST_SPACE
        astray = Route(family=4, table=worker.table, interface="eth0", space=space)
        self._state = replace(self._state, routes=kept | {astray})

    def flush(self, what: str) -> None:
        tables: dict[str, Any] = {"filters": frozenset(), "gates": frozenset()}
        self._state = replace(self._state, **(tables if what == "tables" else {"rules": frozenset()}))

    @contextlib.contextmanager
    def address_events(self) -> Iterator[list[str]]:
        heard: list[str] = []
        before = len(self.wireguard.events)
        yield heard
        heard += self.wireguard.events[before:]
