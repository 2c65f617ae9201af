"""The kernel side: observe() into frozen values, apply(operation) back, each call under a deadline.

rtnetlink and nftables have a thread each. No netlink message and no JSON of nftables leaves their files.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

from fleet.errors import ForeignObject, TunnelError
from fleet.model import Fleet, Worker
from netctl import removal
from netctl.changes import Changes, index_of
from netctl.changes import KernelRefused as KernelRefused  # noqa: PLC0414 - what callers catch
from netctl.lanes import Lane
from netctl.libnftables import NftError
from netctl.messages import ROUTE, Socket
from netctl.nftables import Tables
from netctl.observe import Found as Found  # noqa: PLC0414 - what observe() gives
from netctl.observe import Observer, Sight
from netctl.observe import has_ipv6 as has_ipv6  # noqa: PLC0414
from netctl.plan import Operation
from netctl.state import Device, Filter, Gate, Link
from netctl.wireguard import Backend

CALL_SECONDS = 5.0
"""A lock of the kernel's that somebody holds: longer than this it is a fault, and the slot's own trouble."""
CHANGE_SECONDS = 0.02
"""What each of many changes in one call may take beside."""
T = TypeVar("T")


class Kernel:
    """rtnetlink, raw to look and pyroute2 to change; one nftables context; one WireGuard backend.

    Use as an async context manager.
    """

    def __init__(self, backend: Backend, fleet: Fleet | None) -> None:
        """Without a FLEET whatever has our marks is found, and nothing is foreign."""
        self.backend = backend
        self._with_fleet = fleet is not None
        self._observer = Observer(fleet.members if fleet else (), backend.link_kind)
        self._netlink: Socket | None = None
        self._changes: Changes | None = None
        self._tables = Tables()
        self._routing, self._filtering = Lane("rtnetlink"), Lane("nftables")
        self._looking: asyncio.Task[Found] | None = None
        self._next_look: asyncio.Task[Found] | None = None

    async def __aenter__(self) -> Kernel:
        return self

    async def __aexit__(self, *_: object) -> None:
        for lane, end in ((self._routing, self._close_netlink), (self._filtering, self._tables.close)):
            try:
                await lane.run(end, CALL_SECONDS)
            except asyncio.TimeoutError:
                pass  # the kernel has the thread; it ends with the program
            lane.close()

    def _socket(self) -> Socket:
        # Made by the thread that uses it.
        self._netlink = self._netlink or Socket(ROUTE)
        return self._netlink

    def _change(self, operations: Sequence[Operation]) -> None:
        self._changes = self._changes or Changes()
        self._changes.apply(operations)

    def _close_netlink(self) -> None:
        for opened in (self._netlink, self._changes):
            if opened is not None:
                opened.close()
        self._netlink = self._changes = None

    # --- observe

    async def observe(self, *, devices: Container[str] | None = None) -> Found:
        """Look at everything inside our marks. Of the devices those in DEVICES (None: all).

        Those who ask while a look is under way share the next one. Raises KernelRefused.
        """
        if self._next_look is None:
            self._next_look = asyncio.ensure_future(self._look_behind(self._looking))
        found = await asyncio.shield(self._next_look)
        asked = [link.interface for link in found.state.links if devices is None or link.interface in devices]
        # All at once: one that hangs takes its deadline, and no other waits for it.
        answers = await asyncio.gather(*(self._device(name) for name in asked))
        return replace(found, state=replace(found.state, devices=frozenset(one for one in answers if one is not None)))

    async def _look_behind(self, before: asyncio.Task[Found] | None) -> Found:
        if before is not None:
            await asyncio.wait({before})
        self._looking, self._next_look = self._next_look, None
        return await self._look()

    async def _look(self) -> Found:
        try:
            sight = await self._in_time(self._routing, lambda: self._observer.look(self._socket()))
            filters, gates = await self._in_time(self._filtering, self._tables_seen)
        except ForeignObject as error:
            # Every one of them is named at once.
            others = [f"not ours, inside the fleet's marks: {what}" for what, _ in sight.foreign]
            hint = "; ".join(dict.fromkeys([error.hint, *(f"see: {command}" for _, command in sight.foreign)]))
            raise ForeignObject("\n".join([error.message, *others]), hint=hint) from None
        except OSError as error:
            raise KernelRefused(f"the kernel refused to be looked at: {error.strerror or error}") from None
        except NftError as error:
            raise KernelRefused(f"nftables refused to be looked at: {error}") from None
        await self._claim_unmarked(sight)
        state = replace(sight.state(), filters=filters, gates=gates)
        return Found(state=state, foreign=tuple(sight.foreign), blocked=frozenset(sight.blocked))

    def _tables_seen(self) -> tuple[frozenset[Filter], frozenset[Gate]]:
        try:
            return self._tables.observe()
        except ForeignObject:
            if self._with_fleet:
                raise
            return frozenset(), frozenset()  # somebody else's table of our name is none of ours

    async def _claim_unmarked(self, sight: Sight) -> None:
        """wireguard-go makes its tun without our alias; the answering socket says whose it is."""
        answers = await asyncio.gather(*(self._answers(link.interface) for link in sight.unmarked))
        for link, answered in zip(sight.unmarked, answers, strict=True):
            if answered:
                sight.links.append(link)
            else:
                sight.refuse_link(link)

    async def _answers(self, interface: str) -> bool:
        try:
            return await self.backend.read(interface) is not None
        except TunnelError:
            return True  # it is there, and hangs

    async def _device(self, interface: str) -> Device | None:
        """One that does not answer counts as unknown: its own slot's trouble, and no other's."""
        try:
            reading = await self.backend.read(interface)
        except TunnelError:
            return None
        return reading.device if reading is not None else None

    # --- apply

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Apply OPERATIONS in order, neighbours of one kind in one call, gates of one verb in one transaction.

        Raises KernelRefused, TunnelError.
        """
        for kind, group in itertools.groupby(operations, key=_kind):
            await self._apply(kind, list(group))

    async def _apply(self, kind: str, operations: list[Operation]) -> None:
        if kind == "routing":
            await self._in_time(self._routing, partial(self._change, operations), CHANGE_SECONDS * len(operations))
        elif kind == "device":
            for operation in operations:
                assert isinstance(operation.thing, Device)
                await self.backend.write(operation.thing)
        elif kind == "removal":
            for operation in operations:
                assert isinstance(operation.thing, Link)
                if not await self.delete_link(operation.thing.interface):
                    raise TunnelError(f"the kernel did not do in time: {operation}", hint=f"try it: {operation}")
        else:
            await self._filter(operations)

    async def _filter(self, operations: list[Operation]) -> None:
        things, verb = [operation.thing for operation in operations], operations[0].verb
        gates = [thing for thing in things if isinstance(thing, Gate)]
        filters = [thing for thing in things if isinstance(thing, Filter)]
        try:
            for wanted in filters:
                work = self._tables.remove if verb == "delete" else partial(self._tables.install, wanted, ())
                await self._in_time(self._filtering, work)
            if gates:
                # Workers who come together share one transaction: each takes nearly 1 ms.
                change: tuple[Literal["seal", "open"], list[Gate]] = ("open" if verb == "open" else "seal", gates)
                await self._answered(self._filtering.run_together(self._tables.change, change, CALL_SECONDS))
        except NftError as error:
            raise KernelRefused(f"nftables refused `{operations[0]}`: {error}") from None

    async def install(self, wanted: Filter, gates: Iterable[Gate]) -> None:
        """Make the table anew with GATES open, in one transaction. Raises KernelRefused."""
        try:
            await self._in_time(self._filtering, partial(self._tables.install, wanted, list(gates)))
        except NftError as error:
            raise KernelRefused(f"nftables refused the table: {error}") from None

    async def shut(self, worker: Worker) -> None:
        """Close WORKER's gate by nftables alone, whatever the rest of the kernel does. Raises KernelRefused."""
        try:
            await self._in_time(self._filtering, partial(self._tables.shut, worker))
        except NftError as error:
            raise KernelRefused(f"nftables refused to close the gate of {worker.name}: {error}") from None

    async def delete_link(self, interface: str) -> bool:
        """Delete a link; False when the kernel does not do it in time, True when it is gone."""
        index = index_of(interface)
        return index is None or await removal.delete(index)

    async def _in_time(self, lane: Lane, work: Callable[[], T], more_seconds: float = 0) -> T:
        return await self._answered(lane.run(work, CALL_SECONDS + more_seconds), more_seconds)

    async def _answered(self, call: Awaitable[T], more_seconds: float = 0) -> T:
        try:
            return await call
        except asyncio.TimeoutError:
            raise KernelRefused(f"the kernel did not answer within {CALL_SECONDS + more_seconds:g} s") from None


def _kind(operation: Operation) -> str:
    if isinstance(operation.thing, Device):
        return "device"
    if isinstance(operation.thing, Gate | Filter):
        return f"{type(operation.thing).__name__} {operation.verb}"
    return "removal" if isinstance(operation.thing, Link) and operation.verb == "delete" else "routing"
