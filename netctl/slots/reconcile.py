"""Desired -> observed -> plan -> apply, for all or for one worker: start-up, hot path, repair and cleanup.

The hot path compares with the state that was last applied instead of reading the whole kernel state. After anything
that makes this uncertain (an error, a cancelled task, a notification) it is forgotten, and the next call reads again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from fleet import log
from fleet.backends import Backend
from fleet.errors import FleetError, ForeignObject, KernelRefused
from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.host import Found, Host, ipv6_stack
from netctl.plan import desired, diff
from netctl.plan.desired import Held
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.plan.things import Device, Filter, Gate
from netctl.slots.links import Links
from netctl.slots.rp_filter import FirstValues
from netctl.slots.suspects import in_words

FOREIGN_SECONDS = 2.0
"""A program creates its link shortly before it answers for it; only a link that stays foreign this long is foreign."""
LOOK_SECONDS = 0.02


class Reconciler:
    """Makes all changes to the kernel's state; used from one asyncio loop."""

    def __init__(
        self, fleet: Fleet, backend: Backend, host: Host, links: Links, first_values: FirstValues | None = None
    ) -> None:
        self._fleet = fleet
        self._backend = backend
        self._host = host
        self._links = links
        self._first_values = first_values
        self._known: dict[int, State] = {}
        self._changed: dict[int, float] = {}
        """When netctl last changed something of a worker's part (monotonic), by UID."""
        self._foreign: tuple[tuple[str, str], ...] = ()
        self._crowded = False
        self._log = log.get("netctl")

    async def look(self, *, devices: Container[str] | None = None, worker: Worker | None = None) -> Found:
        """Observe the host and WORKER's own namespace (None: all namespaces), and the devices in DEVICES (None: all).

        Raises ForeignObject, naming all foreign objects, when another program's object blocks WORKER (None: any worker)
        for FOREIGN_SECONDS.
        """
        deadline = time.monotonic() + FOREIGN_SECONDS
        while True:
            spaces = None if worker is None else {self._space(worker)}
            found = await self._observe(devices, spaces=spaces)
            if not found.foreign or (worker is not None and worker.uid not in found.blocked):
                return found
            if time.monotonic() > deadline:
                raise ForeignObject(
                    "\n".join(f"not netctl's, but within the fleet's marks: {what}" for what, _ in found.foreign),
                    hint="see: " + "; ".join(dict.fromkeys(command for _, command in found.foreign)),
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _observe(self, devices: Container[str] | None, *, spaces: Iterable[str] | None) -> Found:
        found = await self._host.observe(devices=devices, spaces=spaces)
        self._crowded = found.crowded
        return replace(found, state=found.state.without(self._links.quarantined))

    def _space(self, worker: Worker) -> str:
        return self._fleet.walls.space(worker)

    async def plan(self, held: Mapping[int, Held]) -> tuple[Operation, ...]:
        """The operations that settle_all would make."""
        kind, spare = self._backend.link_kind, self._links.spare
        found = await self.look()
        wanted = desired.desired(self._fleet, held, kind=kind, ipv6=ipv6_stack(), spare=spare, crowded=found.crowded)
        return diff.diff(wanted, found.state)

    async def settle_all(self, held: Mapping[int, Held]) -> list[Worker]:
        """Apply HELD, by UID: apply shared objects, remove leftovers of former workers, then settle each worker.

        Returns the workers that failed; a failure does not stop the rest.
        """
        self._known.clear()
        found = (await self.look()).state
        self._links.adopt(found)
        _, found = await self._settle_shared(found, self._passing(found, held))
        await self._apply(diff.diff(State(), found.of_former_workers(self._fleet)))
        failed = []
        for worker in self._fleet.members:
            try:
                await self._bring(self._slot(worker, held.get(worker.uid)), found.of_worker(worker), worker)
            except Exception as error:  # noqa: BLE001 - after any error of one worker the others are settled
                self._log.error("slot.not_settled", worker=worker.name, error=in_words(error))
                failed.append(worker)
        return failed

    async def settle(self, worker: Worker, held: Held | None) -> tuple[Operation, ...]:
        """Bring one worker's part of the state to HELD; returns what was done.

        On any error its gate is not more open than before.
        """
        try:
            return await self._settle(worker, held)
        except KernelRefused as error:
            # Another program has changed shared objects; a firewall that reloads flushes every table.
            mended, _ = await self.mend(whole=False)
            commands = [str(operation) for operation in mended]
            self._log.warning("kernel.changed", worker=worker.name, error=str(error), commands=commands)
            return await self._settle(worker, held)

    async def _settle(self, worker: Worker, held: Held | None) -> tuple[Operation, ...]:
        wanted = self._slot(worker, held)
        self.find_space(worker)
        known, own = self._known.pop(worker.uid, None), {self._links.name(worker)}
        if known is None and held is None:
            try:
                found = await self._observe(own, spaces={self._space(worker)})
            except FleetError:
                # Without the observed state there is no diff. But the worker holds nothing: close its gate in any case.
                await self._host.shut(worker)
                raise
            if worker.uid in found.blocked:
                return await self._shut(worker, found.state.of_worker(worker))
            known = found.state.of_worker(worker)
        elif known is None:
            known = (await self.look(devices=own, worker=worker)).state.of_worker(worker)
        return await self._bring(wanted, known, worker)

    async def _bring(self, wanted: State, seen: State, worker: Worker) -> tuple[Operation, ...]:
        operations = diff.diff(wanted, seen)
        await self._apply(operations)
        if operations:
            self._changed[worker.uid] = time.monotonic()
        if seen.links or self._backend.makes_links:
            self._known[worker.uid] = wanted
        return operations

    async def _shut(self, worker: Worker, seen: State) -> tuple[Operation, ...]:
        """Only close the gate and remove key and peer: a foreign object must not keep a slot open."""
        self._log.warning("slot.shut", worker=worker.name, reason="foreign objects within the fleet's marks")
        devices = frozenset(Device(interface=link.interface, space=link.space) for link in seen.links)
        operations = diff.diff(replace(seen, gates=frozenset(), devices=devices), seen)
        await self._apply(operations)
        return operations

    def shared(self) -> State:
        """The objects that should be there for all workers."""
        return desired.shared(self._fleet, self._backend.link_kind, ipv6=ipv6_stack(), crowded=self._crowded)

    def _slot(self, worker: Worker, held: Held | None) -> State:
        kind, spare = self._backend.link_kind, worker.uid in self._links.spare
        return desired.slot(self._fleet, worker, held, kind=kind, ipv6=ipv6_stack(), spare=spare)

    async def mend(self, *, whole: bool = True) -> tuple[tuple[Operation, ...], State]:
        """Restore the objects that all workers share.

        Returns what was done, and the state after it: without devices, and without WHOLE also without the workers' own
        namespaces. A worker whose part is not known to be intact has its gate closed until its part is settled under
        its own lock. Another program's object does not stop the rest.
        """
        found = await self._observe((), spaces=None if whole else ())
        if found.foreign != self._foreign:
            self._foreign = found.foreign
            self._log.warning("kernel.foreign", objects=[what for what, _ in found.foreign])
        return await self._settle_shared(found.state)

    def _passing(self, found: State, held: Mapping[int, Held]) -> frozenset[Gate]:
        """The gates in FOUND that HELD has open; they stay open in a new table, needed after a change of workers."""
        members = {worker.uid: worker for worker in self._fleet.members}
        wanted = [self._slot(members[uid], one).gates for uid, one in held.items()]
        return found.gates & frozenset[Gate]().union(*wanted)

    async def _settle_shared(
        self, found: State, passing: frozenset[Gate] = frozenset()
    ) -> tuple[tuple[Operation, ...], State]:
        """Restore the objects that all workers share; returns what was done, and FOUND with these changes.

        In a new table the gates PASSING are open, and those of workers whose part is known to be intact.
        """
        wanted = self.shared()
        host = found.at(HOST)
        others = frozenset(one for one in host.sysctls if Worker.of_interface(one.path[3]) is None)
        operations = diff.diff(wanted, State(filters=host.filters, sysctls=others, shortcuts=host.shortcuts))
        if not operations:
            return (), found
        if self._first_values is not None:
            try:
                self._first_values.note(operations, host)
            except OSError as error:
                self._log.warning("rp_filter.not_remembered", error=str(error))  # cleanup will not restore them
        gates = found.gates
        for missing in wanted.filters - host.filters:
            # With the gates that no call is changing: a worker whose tunnel is intact does not notice a new table.
            # A call that is changing a gate has removed it from the known state, and continues after this.
            known = (gate for known in self._known.values() for gate in known.gates)
            opened = {gate for gate in (*passing, *known) if gate.space == HOST}
            await self._host.install(missing, opened)
            gates = gates - host.gates | opened
        await self._apply(tuple(one for one in operations if not isinstance(one.thing, Filter)))
        return operations, replace(found, gates=gates, filters=found.filters - host.filters | wanted.filters)

    def difference(self, worker: Worker, held: Held | None, seen: State) -> tuple[Operation, ...]:
        """The operations that would bring WORKER's part of SEEN (without devices) to HELD."""
        wanted = replace(self._slot(worker, held), devices=frozenset())
        there = replace(seen.of_worker(worker), devices=frozenset())
        return diff.diff(wanted, there) if wanted != there else ()  # comparing takes a third of the time

    async def _apply(self, operations: tuple[Operation, ...]) -> None:
        if self._log.is_enabled_for(logging.DEBUG):
            for operation in operations:
                self._log.debug("kernel.change", command=str(operation))
        await self._host.apply(operations)

    def forget(self, worker: Worker) -> None:
        """Forget WORKER's known state, because another program may have changed it: the next change reads it again."""
        self._known.pop(worker.uid, None)

    def knows(self, worker: Worker) -> bool:
        """Whether WORKER's part, including its link, was as it should be when it was last settled."""
        return worker.uid in self._known

    def changed_since(self, worker: Worker, moment: float) -> bool:
        """Whether netctl has changed something of WORKER's part since MOMENT (monotonic)."""
        return self._changed.get(worker.uid, moment) > moment

    def find_space(self, worker: Worker) -> None:
        """Look up WORKER's namespace: if another namespace has its name now, forget the worker's known state."""
        if self._host.spaces.refresh(self._space(worker)):
            self._log.warning("space.another", worker=worker.name, space=self._space(worker))
            self.forget(worker)
