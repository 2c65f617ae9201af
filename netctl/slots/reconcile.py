"""Desired -> observed -> plan -> apply, for all or for one worker: start-up, hot path, repair and cleanup.

The hot path compares with what was last applied instead of looking at the whole kernel; anything that
throws doubt on that (an error, a cancelled task, a notification) forgets it, and the next call looks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Container, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from fleet import log
from fleet.errors import FleetError, ForeignObject, KernelRefused, SpaceGone, TunnelError, in_a_line
from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.host import Found, Host, ipv6_stack
from netctl.kernel.sockets import Leased, Sockets, Source
from netctl.kernel.spaces import Spaces
from netctl.kernel.threads import WorkThread
from netctl.plan import desired, diff, slices, state
from netctl.plan.desired import Held
from netctl.plan.operations import Operation
from netctl.plan.secrets import Key
from netctl.plan.state import Filter, State
from netctl.slots.rp_filter import Remembered

FOREIGN_SECONDS = 2.0
"""wireguard-go makes its tun a moment before it answers for it; only what stays foreign is."""
LOOK_SECONDS = 0.02
SOCKETS_SECONDS = 5.0
DELETE_AGAIN_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 600.0


class Reconciler:
    """Owner of all changes; used from one asyncio loop."""

    def __init__(self, fleet: Fleet, kernel: Host, remembered: Remembered | None = None) -> None:
        self._fleet = fleet
        self._kernel = kernel
        self._remembered = remembered
        self._known: dict[int, State] = {}
        self._spare: set[int] = set()
        self._quarantined: set[str] = set()
        self._foreign: tuple[tuple[str, str], ...] = ()
        self._deletions: set[asyncio.Task[None]] = set()
        # A thread for each of the two kinds of raw sockets, so that each has one user at a time.
        self._raw = Sockets(kernel.spaces)
        self._sockets = WorkThread("sockets")
        self._conntrack = ThreadPoolExecutor(max_workers=1, thread_name_prefix="conntrack")
        self._log = log.get("netctl")

    async def look(self, *, devices: Container[str] | None = None, worker: Worker | None = None) -> Found:
        """Observe the kernel, where WORKER (None: everybody) is; of the devices those in DEVICES (None: all).

        Raises ForeignObject, naming everything, when somebody else's object stays in the way of WORKER (None: of
        anybody) for a moment.
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
        found = await self._kernel.observe(devices=devices, spaces=spaces)
        return replace(found, state=slices.without(found.state, frozenset(self._quarantined)))

    def _space(self, worker: Worker) -> str:
        return self._fleet.walls.space(worker)

    def interface(self, worker: Worker) -> str:
        """The name of WORKER's link: the usual one, or the spare."""
        return worker.spare_interface if worker.uid in self._spare else worker.interface

    def desired(self, held: Mapping[int, Held]) -> State:
        """What the whole kernel should hold."""
        spare = frozenset(self._spare)
        return desired.desired(self._fleet, held, kind=self._kernel.backend.link_kind, ipv6=ipv6_stack(), spare=spare)

    async def plan(self, held: Mapping[int, Held]) -> tuple[Operation, ...]:
        """What settle_all would do."""
        return diff.diff(self.desired(held), (await self.look()).state)

    async def settle_all(self, held: Mapping[int, Held]) -> list[Worker]:
        """Bring everything to HELD, by UID: what all share, what is nobody's any more, then each worker on its own.

        Gives the workers whose device hangs or whose slice the kernel refuses; they are no trouble of the others.
        """
        self._known.clear()
        found = (await self.look()).state
        self._spare = {worker.uid for worker in self._fleet.members if slices.uses_spare(found, worker)}
        _, found = await self._settle_shared(found)
        await self._apply(diff.diff(State(), slices.of_nobody(found, self._fleet)))
        failed = []
        for worker in self._fleet.members:
            try:
                await self._bring(self._slot(worker, held.get(worker.uid)), slices.slice_of(found, worker), worker)
            except FleetError as error:
                self._log.error("slot.not_settled", worker=worker.name, error=in_a_line(error))
                failed.append(worker)
        return failed

    async def settle(self, worker: Worker, held: Held | None) -> tuple[Operation, ...]:
        """Bring one worker's slice to HELD; gives what was done to it.

        On any error its gate is no further open than it was.
        """
        try:
            return await self._settle(worker, held)
        except KernelRefused as error:
            # Somebody changed what we rest on; reloading a firewall flushes every table there is.
            mended, _ = await self.mend(whole=False)
            commands = [str(operation) for operation in mended]
            self._log.warning("kernel.changed", worker=worker.name, error=str(error), commands=commands)
            return await self._settle(worker, held)

    async def _settle(self, worker: Worker, held: Held | None) -> tuple[Operation, ...]:
        wanted = self._slot(worker, held)
        self._look_up(worker)
        known, own = self._known.pop(worker.uid, None), {self.interface(worker)}
        if known is None and held is None:
            try:
                found = await self._observe(own, spaces={self._space(worker)})
            except FleetError:
                # What cannot be seen cannot be compared; but the worker is gone, and its gate is closed whatever hangs.
                await self._kernel.shut(worker)
                raise
            if worker.uid in found.blocked:
                return await self._shut(worker, slices.slice_of(found.state, worker))
            known = slices.slice_of(found.state, worker)
        elif known is None:
            known = slices.slice_of((await self.look(devices=own, worker=worker)).state, worker)
        return await self._bring(wanted, known, worker)

    async def _bring(self, wanted: State, seen: State, worker: Worker) -> tuple[Operation, ...]:
        operations = diff.diff(wanted, seen)
        await self._apply(operations)
        if seen.links or any(link.kind == "wireguard" for link in wanted.links):
            self._known[worker.uid] = wanted
        return operations

    async def _shut(self, worker: Worker, seen: State) -> tuple[Operation, ...]:
        """Gate closed, key and peer gone, nothing else touched: a stranger's object keeps no slot open."""
        self._log.warning("slot.shut", worker=worker.name, reason="foreign objects inside the fleet's marks")
        devices = frozenset(state.Device(interface=link.interface, space=link.space) for link in seen.links)
        operations = diff.diff(replace(seen, gates=frozenset(), devices=devices), seen)
        await self._apply(operations)
        return operations

    def _slot(self, worker: Worker, held: Held | None) -> State:
        kind, spare = self._kernel.backend.link_kind, worker.uid in self._spare
        return desired.slot(self._fleet, worker, held, kind=kind, ipv6=ipv6_stack(), spare=spare)

    async def mend(self, *, whole: bool = True) -> tuple[tuple[Operation, ...], State]:
        """Bring back what all workers share.

        Gives what was done, and what is there now, without devices, and without WHOLE nothing of the workers' own
        namespaces. Where a worker's slice is not known to be whole
        its gate is closed until that is settled, under its own lock. Somebody else's object is no reason to leave
        the rest.
        """
        found = await self._observe((), spaces=None if whole else ())
        if found.foreign != self._foreign:
            self._foreign = found.foreign
            self._log.warning("kernel.foreign", objects=[what for what, _ in found.foreign])
        return await self._settle_shared(found.state)

    async def _settle_shared(self, found: State) -> tuple[tuple[Operation, ...], State]:
        """What all workers share is as it should be; what was done, and FOUND as it is then."""
        wanted = desired.shared(self._fleet)
        host = slices.at(found, HOST)
        others = frozenset(one for one in host.sysctls if Worker.of_interface(one.path[3]) is None)
        operations = diff.diff(wanted, State(filters=host.filters, sysctls=others))
        if not operations:
            return (), found
        if self._remembered is not None:
            try:
                self._remembered.note(operations, host)
            except OSError as error:
                self._log.warning("rp_filter.not_remembered", error=str(error))  # cleanup will leave them as they are
        gates = found.gates
        for missing in wanted.filters - host.filters:
            # With the gates that nobody is changing: a worker whose tunnel is whole hears nothing of a table made anew.
            # Whoever is changing one has taken it out of what is known, and goes on behind us.
            opened = {gate for known in self._known.values() for gate in known.gates if gate.space == HOST}
            await self._kernel.install(missing, opened)
            gates = gates - host.gates | opened
        await self._apply(tuple(one for one in operations if not isinstance(one.thing, Filter)))
        return operations, replace(found, gates=gates, filters=found.filters - host.filters | wanted.filters)

    def difference(self, worker: Worker, held: Held | None, seen: State) -> tuple[Operation, ...]:
        """What would bring WORKER's slice in SEEN (without devices) to what HELD asks for."""
        wanted = replace(self._slot(worker, held), devices=frozenset())
        return diff.diff(wanted, replace(slices.slice_of(seen, worker), devices=frozenset()))

    async def _apply(self, operations: tuple[Operation, ...]) -> None:
        if self._log.is_enabled_for(logging.DEBUG):
            for operation in operations:
                self._log.debug("kernel.change", command=str(operation))
        await self._kernel.apply(operations)

    async def shut_gate(self, worker: Worker) -> None:
        """Close WORKER's gate and touch nothing else; shut already is no error."""
        self.forget(worker)
        await self._kernel.shut(worker)

    def change_link(self, worker: Worker) -> None:
        """WORKER goes on under its link's other name; the old link is quarantined and deleted beside.

        Raises TunnelError while the link of the other name is quarantined too.
        """
        old, other = self.interface(worker), next(name for name in worker.interfaces if name != self.interface(worker))
        if other in self._quarantined:
            raise TunnelError(f"the links {old} and {other} are both stuck in the kernel", hint=f"ip link show {old}")
        self._quarantined.add(old)
        self._spare ^= {worker.uid}
        self.forget(worker)
        task = asyncio.ensure_future(self._delete(old, self._space(worker)))
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, interface: str, space: str) -> None:
        """Delete a quarantined link however long that takes."""
        pause = DELETE_AGAIN_SECONDS
        while not await self._kernel.delete_link(interface, space):
            self._log.error("link.stuck", interface=interface, again_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._quarantined.discard(interface)
        self._log.info("link.deleted", interface=interface)

    def forget(self, worker: Worker) -> None:
        """Something outside of us changed in WORKER's range: look again before the next change."""
        self._known.pop(worker.uid, None)

    async def device_ready(self, worker: Worker, deadline: float) -> None:
        """Wait until WORKER's device answers (monotonic DEADLINE); raises TunnelError."""
        if worker.uid in self._known:
            return
        backend = self._kernel.backend
        while backend.link_kind == "tun" and await backend.read(self.interface(worker)) is None:
            if time.monotonic() > deadline:
                raise TunnelError(
                    f"{worker.interface} did not appear: wireguard-go is not running or does not answer",
                    hint=f"supervisorctl status wg:{worker.interface}",
                )
            await asyncio.sleep(LOOK_SECONDS)

    @property
    def spaces(self) -> Spaces:
        """The workers' namespaces."""
        return self._kernel.spaces

    def find_space(self, worker: Worker) -> None:
        """Look for WORKER's namespace; raises SpaceGone when there is none, nor ever was."""
        self._look_up(worker)
        if (space := self._space(worker)) != HOST:
            self.spaces.descriptor(space)

    def _look_up(self, worker: Worker) -> None:
        """Where another namespace has the name of WORKER's, nothing is known of it."""
        if self.spaces.refresh(self._space(worker)):
            self._log.warning("space.another", worker=worker.name, space=self._space(worker))
            self.forget(worker)

    def linked(self, worker: Worker) -> bool:
        """Whether WORKER's link was where it should be when its slice was last settled."""
        return worker.uid in self._known

    def _source(self, worker: Worker) -> Source:
        return Source(self._space(worker), *worker.placeholders)

    async def end_sockets(self, worker: Worker) -> None:
        """Abort every socket of WORKER's source, beside whatever else is waited for."""
        # Listing them costs the same for one worker and for many: those who come together share it.
        call = self._sockets.run_together(self._raw.end, self._source(worker), SOCKETS_SECONDS)
        await self._told("sockets.ended", call)

    async def sweep(self, worker: Worker) -> None:
        """Abort every socket and conntrack entry of WORKER's source."""
        await self.end_sockets(worker)
        work = partial(self._raw.forget_connections, self._source(worker))
        await self._told("conntrack.ended", asyncio.get_running_loop().run_in_executor(self._conntrack, work))

    async def _told(self, action: str, work: Awaitable[int]) -> None:
        try:
            count = await work
        except (OSError, SpaceGone, asyncio.TimeoutError) as error:
            # A kernel that refuses leaves them to their time-outs; the gate and the last chain hold anyway.
            self._log.warning(f"{action}.failed", error=str(error) or "the kernel did not answer in time")
        else:
            self._log.debug(action, count=count)

    def sweep_later(self, worker: Worker, key: Key) -> None:
        """End WORKER's conntrack entries of an earlier lease, KEY's, without waiting: 12 ms that no reply needs.

        Until they are gone the table's last chain drops what they translate.
        """
        work = partial(self._raw.forget_connections, self._source(worker), Leased(key.address, key.address_v6))
        self._conntrack.submit(work).add_done_callback(self._swept)

    def _swept(self, future: Future[int]) -> None:
        if error := future.exception():
            self._log.error("conntrack.not_ended", error=str(error))

    def close(self) -> None:
        """Let the threads end; a link that is still being deleted is the next netctl's to find."""
        for task in self._deletions:
            task.cancel()
        self._sockets.close()
        self._conntrack.shutdown()
