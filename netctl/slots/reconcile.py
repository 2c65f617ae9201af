"""Desired -> observed -> plan -> apply, for all or for one worker: start-up, hot path, repair and cleanup.

The hot path compares with what was last applied instead of looking at the whole kernel; anything that
throws doubt on that (an error, a cancelled task, a notification) forgets it, and the next call looks.
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
"""A program makes its link a moment before it answers for it; only what stays foreign is."""
LOOK_SECONDS = 0.02


class Reconciler:
    """Owner of all changes; used from one asyncio loop."""

    def __init__(
        self, fleet: Fleet, backend: Backend, host: Host, links: Links, first_values: FirstValues | None = None
    ) -> None:
        self._fleet = fleet
        self._backend = backend
        self._host = host
        self._links = links
        self._first_values = first_values
        self._known: dict[int, State] = {}
        self._foreign: tuple[tuple[str, str], ...] = ()
        self._log = log.get("netctl")
        self.shared = desired.shared(fleet, backend.link_kind)

    async def look(self, *, devices: Container[str] | None = None, worker: Worker | None = None) -> Found:
        """Observe the kernel, where WORKER (None: any worker) is; of the devices those in DEVICES (None: all).

        Raises ForeignObject, naming everything, when another program's object stays in the way of WORKER (None: of
        any worker) for a moment.
        """
        deadline = time.monotonic() + FOREIGN_SECONDS
        while True:
            spaces = None if worker is None else {self._space(worker)}
            found = await self._observe(devices, spaces=spaces)
            if not found.foreign or (worker is not None and worker.uid not in found.blocked):
                return found
            if time.monotonic() > deadline:
                raise ForeignObject(
                    "\n".join(f"not ours, inside the fleet's marks: {what}" for what, _ in found.foreign),
                    hint="look at it: " + "; ".join(dict.fromkeys(command for _, command in found.foreign)),
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _observe(self, devices: Container[str] | None, *, spaces: Iterable[str] | None) -> Found:
        found = await self._host.observe(devices=devices, spaces=spaces)
        return replace(found, state=found.state.without(self._links.quarantined))

    def _space(self, worker: Worker) -> str:
        return self._fleet.walls.space(worker)

    async def plan(self, held: Mapping[int, Held]) -> tuple[Operation, ...]:
        """What settle_all would do."""
        kind, spare = self._backend.link_kind, self._links.spare
        wanted = desired.desired(self._fleet, held, kind=kind, ipv6=ipv6_stack(), spare=spare)
        return diff.diff(wanted, (await self.look()).state)

    async def settle_all(self, held: Mapping[int, Held]) -> list[Worker]:
        """Bring everything to HELD, by UID: what all share, what former workers left, then each worker on its own.

        Returns the workers whose device hangs or whose slice the kernel refuses; a failure does not stop the rest.
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
            except Exception as error:  # noqa: BLE001 - whatever one worker's key raises, the others are settled
                self._log.error("slot.not_settled", worker=worker.name, error=in_words(error))
                failed.append(worker)
        return failed

    async def settle(self, worker: Worker, held: Held | None) -> tuple[Operation, ...]:
        """Bring one worker's slice to HELD; returns what was done to it.

        On any error its gate is no further open than it was.
        """
        try:
            return await self._settle(worker, held)
        except KernelRefused as error:
            # Another program changed what this rests on; a firewall that reloads flushes every table.
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
                # What cannot be seen cannot be compared. But the worker is gone: its gate is closed whatever hangs.
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
        if seen.links or self._backend.makes_links:
            self._known[worker.uid] = wanted
        return operations

    async def _shut(self, worker: Worker, seen: State) -> tuple[Operation, ...]:
        """Close the gate, remove key and peer, touch nothing else: a foreign object keeps no slot open."""
        self._log.warning("slot.shut", worker=worker.name, reason="foreign objects inside the fleet's marks")
        devices = frozenset(Device(interface=link.interface, space=link.space) for link in seen.links)
        operations = diff.diff(replace(seen, gates=frozenset(), devices=devices), seen)
        await self._apply(operations)
        return operations

    def _slot(self, worker: Worker, held: Held | None) -> State:
        kind, spare = self._backend.link_kind, worker.uid in self._links.spare
        return desired.slot(self._fleet, worker, held, kind=kind, ipv6=ipv6_stack(), spare=spare)

    async def mend(self, *, whole: bool = True) -> tuple[tuple[Operation, ...], State]:
        """Bring back what all workers share.

        Returns what was done, and what is there now, without devices, and without WHOLE nothing of the workers' own
        namespaces. Where a worker's slice is not known to be whole its gate is closed until that is settled, under
        its own lock. Another program's object does not stop the rest.
        """
        found = await self._observe((), spaces=None if whole else ())
        if found.foreign != self._foreign:
            self._foreign = found.foreign
            self._log.warning("kernel.foreign", objects=[what for what, _ in found.foreign])
        return await self._settle_shared(found.state)

    def _passing(self, found: State, held: Mapping[int, Held]) -> frozenset[Gate]:
        """The gates of FOUND that HELD has open: with other workers than before there is another table."""
        members = {worker.uid: worker for worker in self._fleet.members}
        wanted = [self._slot(members[uid], one).gates for uid, one in held.items()]
        return found.gates & frozenset[Gate]().union(*wanted)

    async def _settle_shared(
        self, found: State, passing: frozenset[Gate] = frozenset()
    ) -> tuple[tuple[Operation, ...], State]:
        """Bring back what all workers share; returns what was done, and FOUND as it is then.

        A new table has the gates open that are PASSING, and those of who is known to be whole.
        """
        wanted = self.shared
        host = found.at(HOST)
        others = frozenset(one for one in host.sysctls if Worker.of_interface(one.path[3]) is None)
        operations = diff.diff(wanted, State(filters=host.filters, sysctls=others))
        if not operations:
            return (), found
        if self._first_values is not None:
            try:
                self._first_values.note(operations, host)
            except OSError as error:
                self._log.warning("rp_filter.not_remembered", error=str(error))  # cleanup will leave them as they are
        gates = found.gates
        for missing in wanted.filters - host.filters:
            # With the gates that no call is changing: a worker whose tunnel is whole hears nothing of a new table.
            # A call that is changing a gate has taken it out of what is known, and goes on when this is done.
            known = (gate for known in self._known.values() for gate in known.gates)
            opened = {gate for gate in (*passing, *known) if gate.space == HOST}
            await self._host.install(missing, opened)
            gates = gates - host.gates | opened
        await self._apply(tuple(one for one in operations if not isinstance(one.thing, Filter)))
        return operations, replace(found, gates=gates, filters=found.filters - host.filters | wanted.filters)

    def difference(self, worker: Worker, held: Held | None, seen: State) -> tuple[Operation, ...]:
        """What would bring WORKER's slice in SEEN (without devices) to what HELD asks for."""
        wanted = replace(self._slot(worker, held), devices=frozenset())
        return diff.diff(wanted, replace(seen.of_worker(worker), devices=frozenset()))

    async def _apply(self, operations: tuple[Operation, ...]) -> None:
        if self._log.is_enabled_for(logging.DEBUG):
            for operation in operations:
                self._log.debug("kernel.change", command=str(operation))
        await self._host.apply(operations)

    def forget(self, worker: Worker) -> None:
        """Another program changed something of WORKER's: look again before the next change."""
        self._known.pop(worker.uid, None)

    def knows(self, worker: Worker) -> bool:
        """Whether WORKER's slice, its link with it, was as it should be when it was last settled."""
        return worker.uid in self._known

    def find_space(self, worker: Worker) -> None:
        """Look WORKER's namespace up: where another one has its name, nothing is known of it."""
        if self._host.spaces.refresh(self._space(worker)):
            self._log.warning("space.another", worker=worker.name, space=self._space(worker))
            self.forget(worker)
