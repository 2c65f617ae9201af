"""One contract for what observes and applies a State, on every ground; `ip`, `nft` and the far end are the judges."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from fleet.model import Fleet, Worker
from netctl.plan import diff
from netctl.plan.desired import Held, desired
from netctl.plan.diff import Operation
from netctl.plan.shortcut import Shortcut
from netctl.plan.state import State
from netctl.plan.things import Filter, Gate, Rule
from netctl.wireguard.contract import wait_for_handshake
from tests.contract.ground import AnyHost, Ground, fleet_of, held, key

T = TypeVar("T")


@dataclass
class Host:
    """A fleet of two workers on a ground; nothing of theirs is there yet but what programs make."""

    ground: Ground
    fleet: Fleet

    @property
    def workers(self) -> tuple[Worker, ...]:
        return self.fleet.members

    def wanted(self, leases: dict[int, Held] | None = None) -> State:
        """What LEASES ask for."""
        return desired(self.fleet, leases or {}, kind=self.ground.wireguard.backend.link_kind)

    def observe(self) -> State:
        """Ours, as it is now; nobody else's objects are inside our marks."""

        async def look(kernel: AnyHost) -> State:
            found = await kernel.observe()
            assert found.foreign == ()
            return found.state

        return self._with_kernel(look)

    def settle(self, wanted: State) -> tuple[Operation, ...]:
        """Bring the kernel to WANTED; what was done."""

        async def bring(kernel: AnyHost) -> tuple[Operation, ...]:
            operations = diff.diff(wanted, (await kernel.observe()).state)
            await kernel.apply(operations)
            return operations

        return self._with_kernel(bring)

    def foreign(self) -> tuple[tuple[str, str], ...]:
        """Objects inside our marks that are not ours."""

        async def look(kernel: AnyHost) -> tuple[tuple[str, str], ...]:
            return (await kernel.observe()).foreign

        return self._with_kernel(look)

    def filtering(self) -> dict[tuple[str, str], int]:
        """rp_filter by namespace and interface."""
        return {(one.space, one.path[3]): one.value for one in self.observe().sysctls if one.path[-1] == "rp_filter"}

    def lease(self, worker: Worker, server: int, client: int) -> State:
        """Settle one worker on a key of SERVER, and wait for its handshake; what was wanted."""
        wanted = self.wanted({worker.uid: held(key(server, client))})
        self.settle(wanted)
        (device,) = (one for one in wanted.devices if one.interface == worker.interface)
        self.ground.call(lambda: wait_for_handshake(self.ground.wireguard, device, 10))
        return wanted

    def _with_kernel(self, work: Callable[[AnyHost], Coroutine[Any, Any, T]]) -> T:
        async def entered() -> T:
            async with self.ground.kernel(self.fleet) as kernel:
                return await work(kernel)

        return self.ground.call(entered)


@pytest.fixture
def host(ground: Ground) -> Iterator[Host]:
    """Cleaned up behind each test, which is itself a promise: then nothing of ours is there."""
    made = Host(ground, fleet_of(2, ground.isolation))
    with ExitStack() as programs:
        for worker in made.workers:
            programs.enter_context(ground.space(worker))
        if not ground.wireguard.backend.makes_links:
            for worker in made.workers:
                programs.enter_context(ground.device(worker.interface))
        yield made
        made.settle(State())
        left = made.observe()
        assert left == State(sysctls=left.sysctls)


def test_the_goal_is_reached_and_then_there_is_nothing_to_do(host: Host) -> None:
    """From an empty host to a fleet with one tunnel; the second plan is empty."""
    wanted = host.wanted({host.workers[0].uid: held(key(1, 1))})
    assert host.settle(wanted)
    found = host.observe()
    assert (found.links, found.addresses, found.routes) == (wanted.links, wanted.addresses, wanted.routes)
    assert (found.rules, found.gates, found.filters) == (wanted.rules, wanted.gates, wanted.filters)
    assert found.devices == wanted.devices
    assert wanted.sysctls <= found.sysctls
    assert wanted.spaces == found.spaces
    assert host.settle(wanted) == ()


@pytest.mark.parametrize("what", ["rules", "tables"])
def test_what_somebody_flushed_comes_back_and_nothing_else_changes(host: Host, what: str) -> None:
    """All rules or all of nftables gone: the plan holds what is missing, and then there is nothing to do."""
    worker = host.workers[0]
    wanted = host.lease(worker, 1, 2)
    assert host.ground.seen_as(worker) == key(1, 2).address
    host.ground.flush(what)
    kinds = {type(one.thing) for one in host.settle(wanted)}
    assert kinds - {Shortcut} == ({Rule} if what == "rules" else {Filter, Gate})
    assert host.settle(wanted) == ()
    assert host.ground.seen_as(worker) == key(1, 2).address


def test_a_route_that_leads_astray_is_replaced_at_once(host: Host) -> None:
    """A worker's table that leads out of the uplink: nothing comes back, and one plan puts it right."""
    worker = host.workers[0]
    wanted = host.lease(worker, 3, 2)
    host.ground.lead_astray(worker)
    assert host.ground.seen_as(worker) is None
    host.settle(wanted)
    assert host.settle(wanted) == ()
    assert host.ground.seen_as(worker) == key(3, 2).address


def test_a_worker_is_seen_from_its_leased_address_through_every_rotation(host: Host) -> None:
    """An address-less interface, a placeholder and translation carry packets; four rotations, no address event."""
    worker = host.workers[0]
    host.settle(host.wanted())
    with host.ground.address_events() as events:
        for server in (1, 2, 3, 1):
            host.lease(worker, server, 3)
            assert host.ground.seen_as(worker) == key(server, 3).address
    assert events == []


def test_a_sealed_worker_reaches_nothing(host: Host) -> None:
    """Without a lease, and behind one: no answer. Whoever is no worker is seen from the host's own address."""
    worker, neighbour = host.workers
    host.lease(worker, 2, 4)
    assert host.ground.seen_as(neighbour) is None
    host.settle(host.wanted())
    assert host.ground.seen_as(worker) is None
    assert str(host.ground.seen_as(Worker(uid=4000))) == "198.51.100.10"


def test_a_neighbours_device_comes_and_goes_in_silence(host: Host) -> None:
    """A lost device is made again: no address event, and the other worker's tunnel works on."""
    worker, neighbour = host.workers
    host.lease(worker, 1, 5)
    leases = {worker.uid: held(key(1, 5)), neighbour.uid: held(key(2, 5))}
    host.settle(host.wanted(leases))
    with host.ground.address_events() as events:
        host.ground.lose(neighbour.interface)
        assert host.ground.seen_as(neighbour) is None
        host.settle(host.wanted(leases))
        assert host.settle(host.wanted(leases)) == ()
        assert host.ground.seen_as(worker) == key(1, 5).address
    assert events == []
    assert host.ground.seen_as(neighbour) == key(2, 5).address


def test_foreign_objects_survive_everything(host: Host) -> None:
    """Links, addresses, routes, rules and tables of others are as they were: set up, rotated, cleaned up."""
    with host.ground.address_events() as events, host.ground.plant_foreign() as seen:
        before = seen()
        host.lease(host.workers[0], 1, 6)
        host.lease(host.workers[0], 2, 6)
        assert seen() == before
        host.settle(State())
        assert seen() == before
    # Also the control of every test that expects no address event: this many would have been seen.
    assert any("192.0.2.9" in event for event in events)


def test_a_foreign_object_inside_our_marks_is_named(host: Host) -> None:
    """A rule of our priority without our protocol number is reported, with the command that shows it."""
    with host.ground.plant_rule(host.workers[0].table):
        ((what, command),) = host.foreign()
    assert f"rule of priority {host.workers[0].table}" in what
    assert command == "ip -4 rule show"


def test_all_is_lowered_behind_every_other_interface(host: Host) -> None:
    """rp_filter of others is at least what it effectively was before `all` went down, wherever that has to go down."""
    before = host.filtering()
    host.settle(host.wanted())
    found = host.filtering()
    ours = {worker.interface for worker in host.workers}
    lowered = {one.space for one in host.wanted().sysctls if one.path[3] == "all"}
    assert lowered
    for (space, name), value in before.items():
        if name == "all":
            assert found[space, name] == (0 if space in lowered else value)
        elif name not in ours:
            assert found[space, name] >= max(value, before[space, "all"] if space in lowered else 0)
