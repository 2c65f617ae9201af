"""The kernel side: observe() reads into frozen values, apply() makes operations; each call has a deadline.

rtnetlink and nftables have one thread each. Netlink messages and nftables' JSON are used only in their own files.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import TypeVar

from fleet.errors import ForeignObject, KernelRefused, TunnelError
from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.filter.library import NftError
from netctl.filter.owned_table import named
from netctl.filter.tables import Tables
from netctl.kernel import removal
from netctl.kernel.changes import Changes, index_of
from netctl.kernel.netlink import ROUTE, Socket
from netctl.kernel.observe import Found as Found  # noqa: PLC0414 - what observe() returns
from netctl.kernel.observe import Observer, Sight, source
from netctl.kernel.observe import ipv6_stack as ipv6_stack  # noqa: PLC0414
from netctl.kernel.setns import PerSpace, Spaces
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.plan.things import Device, Filter, Gate, Link, Way
from netctl.threads import WorkThread
from netctl.wireguard.contract import Reading, WireGuard

CALL_SECONDS = 5.0
"""A call that waits longer, for one of the kernel's locks, fails; only the slot it was made for fails with it."""
CHANGE_SECONDS = 0.02
"""How much each change in one call adds to its deadline."""
T = TypeVar("T")


class Host:
    """rtnetlink (raw for reads, pyroute2 for changes), one nftables context for each namespace, one WireGuard backend.

    Use as an async context manager.
    """

    def __init__(
        self, wireguard: WireGuard | None, fleet: Fleet | None, spaces: Spaces | None = None, root: Path | None = None
    ) -> None:
        """Without a FLEET it finds everything with netctl's marks, and nothing is foreign. Without WIREGUARD it sees no
        devices.

        SPACES are the workers' own namespaces, if the isolation uses them; without a FLEET all existing ones are read.
        ROOT, the fleet's FLEET_ROOT, is written into the tables that it installs.
        """
        self._wireguard = wireguard
        self.spaces = spaces or Spaces()
        self.source = source
        self._fleet = fleet
        self._observer = Observer(fleet.members if fleet else (), wireguard.backend if wireguard else None)
        # Each socket is made by the thread that uses it.
        self._netlink = PerSpace(self.spaces, lambda _: Socket(ROUTE), Socket.close)
        self._changes = PerSpace(self.spaces, lambda _: Changes(self.spaces.descriptor), Changes.close)
        made = partial(Tables, fleet=named(root) if root else "")
        self._tables = PerSpace(self.spaces, made, Tables.close)
        self._routing, self._filtering = WorkThread("rtnetlink"), WorkThread("nftables")
        self._ways: dict[Way, Callable[[str, list[Operation]], Awaitable[None]]] = {
            "space": self._change_spaces,
            "routing": self._change_routing,
            "removal": self._remove_links,
            "device": self._write_devices,
            "table": self._change_tables,
            "gate": self._change_gates,
        }
        self._asked: set[str] = set()
        self._looking: asyncio.Task[Found] | None = None
        self._next_look: asyncio.Task[Found] | None = None

    async def __aenter__(self) -> Host:
        return self

    async def __aexit__(self, *_: object) -> None:
        for thread, end in ((self._routing, self._close_netlink), (self._filtering, self._tables.close)):
            try:
                await thread.run(end, CALL_SECONDS)
            except asyncio.TimeoutError:
                pass  # the thread is stuck in the kernel; it ends with the program
            thread.close()

    def _close_netlink(self) -> None:
        self._netlink.close()
        self._changes.close()

    # --- observe

    async def observe(self, *, devices: Container[str] | None = None, spaces: Iterable[str] | None = None) -> Found:
        """Read all objects with netctl's marks in the host and in SPACES (None: all), and the devices in DEVICES.

        Callers that come while a read is running share the next one. Raises KernelRefused, ForeignObject.
        """
        self._asked |= set(self._all_spaces() if spaces is None else spaces) - {HOST}
        if self._next_look is None:
            self._next_look = asyncio.ensure_future(self._look_after(self._looking))
        found = await asyncio.shield(self._next_look)
        asked = [link for link in found.state.links if devices is None or link.interface in devices]
        # All at once: a device that hangs takes its whole deadline, but the others do not wait for it.
        answers = await asyncio.gather(*(self._device(link) for link in asked))
        return replace(found, state=replace(found.state, devices=frozenset(one for one in answers if one is not None)))

    def _all_spaces(self) -> frozenset[str]:
        if self._fleet is None:
            return self.spaces.known()
        return frozenset(self._fleet.walls.space(worker) for worker in self._fleet.members)

    async def _look_after(self, before: asyncio.Task[Found] | None) -> Found:
        if before is not None:
            await asyncio.wait({before})
        self._looking, self._next_look = self._next_look, None
        asked, self._asked = self._asked, set()
        for space in asked:
            self.spaces.refresh(space)
        # One after the other, each with its own deadline.
        looks = [await self._look(space) for space in (HOST, *sorted(filter(self.spaces.there, asked)))]
        return reduce(Found.__or__, looks)

    async def _look(self, space: str) -> Found:
        try:
            look = self._observer.look
            sight = await self._in_time(self._routing, space, lambda: look(self._netlink.at(space), space))
            filters, gates = await self._in_time(self._filtering, space, lambda: self._tables_seen(space))
        except ForeignObject as error:
            # The error names all foreign objects at once.
            others = [f"not netctl's, but within the fleet's marks: {what}" for what, _ in sight.foreign]
            hint = "; ".join(dict.fromkeys([error.hint, *(f"see: {command}" for _, command in sight.foreign)]))
            raise ForeignObject("\n".join([error.message, *others]), hint=hint) from None
        except OSError as error:
            raise KernelRefused(f"the kernel's state cannot be read: {error.strerror or error}") from None
        except NftError as error:
            raise KernelRefused(f"nftables cannot be read: {error}") from None
        await self._claim_unmarked(sight)
        state = State.of((*sight.things, *filters, *gates))
        return Found(state=state, foreign=tuple(sight.foreign), blocked=frozenset(sight.blocked), crowded=sight.crowded)

    def _tables_seen(self, space: str) -> tuple[frozenset[Filter], frozenset[Gate]]:
        try:
            return self._tables.at(space).observe()
        except ForeignObject:
            if self._fleet is not None:
                raise
            return frozenset(), frozenset()  # another program's table with the name of netctl's

    async def _claim_unmarked(self, sight: Sight) -> None:
        """A program makes its link without the alias; if it answers under that name, the link is netctl's."""
        answers = await asyncio.gather(*(self._answers(link) for link in sight.unmarked))
        for link, answered in zip(sight.unmarked, answers, strict=True):
            if answered:
                sight.things.append(link)
            else:
                sight.refuse_link(link)

    async def _answers(self, link: Link) -> bool:
        try:
            return await self._read(link) is not None
        except TunnelError:
            return True  # it exists but hangs

    async def _device(self, link: Link) -> Device | None:
        """The device of LINK; None if it does not answer, so that only its own slot is affected."""
        try:
            reading = await self._read(link)
        except TunnelError:
            return None
        return reading.device if reading is not None else None

    async def _read(self, link: Link) -> Reading | None:
        return await self._wireguard.read(link.interface, link.space) if self._wireguard is not None else None

    # --- apply

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Apply OPERATIONS in order. Consecutive ones of the same way and namespace are one call, or transaction.

        Raises KernelRefused, SpaceGone, TunnelError.
        """
        for (way, space, _), group in itertools.groupby(operations, key=_together):
            await self._ways[way](space, list(group))

    async def _change_spaces(self, _: str, operations: list[Operation]) -> None:
        for operation in operations:
            self.spaces.change(operation.thing.space, remove=operation.verb == "delete")

    async def _change_routing(self, space: str, operations: list[Operation]) -> None:
        more_seconds = CHANGE_SECONDS * len(operations)
        await self._in_time(self._routing, space, lambda: self._changes.at(space).apply(operations), more_seconds)

    async def _remove_links(self, space: str, operations: list[Operation]) -> None:
        for operation in operations:
            if not await self.delete_link(str(operation.thing.on), space):
                raise TunnelError(
                    f"the kernel did not delete it within {removal.DEADLINE_SECONDS:g} s: {operation}",
                    hint=f"try it: {operation}",
                )

    async def _write_devices(self, _: str, operations: list[Operation]) -> None:
        for operation in operations:
            assert self._wireguard is not None and isinstance(operation.thing, Device)
            change = self._wireguard.open if operation.verb == "open" else self._wireguard.write
            await change(operation.thing)

    async def _change_tables(self, space: str, operations: list[Operation]) -> None:
        for operation in operations:
            with _refusal(f"`{operation}`"):
                await self._in_time(self._filtering, space, partial(self._set_table, operation))

    async def _change_gates(self, _: str, operations: list[Operation]) -> None:
        with _refusal(f"`{operations[0]}`"):
            # Calls that come together share one transaction: each takes nearly 1 ms.
            await self._answered(self._filtering.run_together(self._turn_gates, operations, CALL_SECONDS))

    def _set_table(self, operation: Operation) -> None:
        tables, wanted = self._tables.at(operation.space), operation.thing
        assert isinstance(wanted, Filter)
        tables.remove() if operation.verb == "delete" else tables.install(wanted, ())

    def _turn_gates(self, asked: Sequence[list[Operation]]) -> None:
        for space in dict.fromkeys(operations[0].space for operations in asked):
            there = [one for operations in asked for one in operations if one.space == space]
            self.spaces.inside(space, partial(self._turn_gates_at, space, there))

    def _turn_gates_at(self, space: str, operations: list[Operation]) -> None:
        self._tables.at(space).change(operations)

    async def install(self, wanted: Filter, gates: Iterable[Gate]) -> None:
        """Replace the host's table by WANTED with GATES open, in one transaction. Raises KernelRefused."""
        opened = list(gates)
        with _refusal("the table"):
            await self._in_time(self._filtering, HOST, lambda: self._tables.at(HOST).install(wanted, opened))

    async def shut(self, worker: Worker) -> None:
        """Close WORKER's gate by nftables only, so that no other part of the kernel delays it. Raises KernelRefused."""
        space = self._fleet.walls.space(worker) if self._fleet is not None else HOST
        if not self.spaces.there(space):
            return  # no gate was ever opened there
        with _refusal(f"to close the gate of {worker.name}"):
            await self._in_time(self._filtering, space, lambda: self._tables.at(space).shut(worker))

    async def delete_link(self, interface: str, space: str = HOST) -> bool:
        """Delete a link; True when it is gone, False when the kernel refuses or does not finish in time."""
        if not self.spaces.there(space):
            return True
        # Neither call blocks; an index and a socket belong to the namespace in which they are made.
        index = self.spaces.inside(space, lambda: index_of(interface))
        if index is None:
            return True
        with self.spaces.inside(space, removal.opened) as netlink:
            return await removal.delete(index, netlink)

    async def _in_time(self, thread: WorkThread, space: str, work: Callable[[], T], more_seconds: float = 0) -> T:
        call = thread.run(lambda: self.spaces.inside(space, work), CALL_SECONDS + more_seconds)
        return await self._answered(call, more_seconds)

    async def _answered(self, call: Awaitable[T], more_seconds: float = 0) -> T:
        try:
            return await call
        except asyncio.TimeoutError:
            raise KernelRefused(f"the kernel did not answer within {CALL_SECONDS + more_seconds:g} s") from None


@contextmanager
def _refusal(what: str) -> Iterator[None]:
    """Raise an NftError as KernelRefused, which names WHAT."""
    try:
        yield
    except NftError as error:
        raise KernelRefused(f"nftables refused {what}: {error}") from None


def _together(operation: Operation) -> tuple[Way, str, str]:
    """Operations with the same value share a call. Opening and sealing gates are separate transactions."""
    return operation.way, operation.space, operation.verb if operation.way == "gate" else ""
