"""Desired -> observed -> plan -> apply, for all or for one worker: start-up, hot path, repair and cleanup.

The hot path compares with what was last applied instead of looking at the whole kernel; anything that
throws doubt on that (an error, a cancelled task, a notification) forgets it, and the next call looks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address

from fleet import log
from fleet.errors import ForeignObject, TunnelError
from fleet.model import Fleet, Worker
from netctl import plan, sockets, state
from netctl.kernel import Found, Kernel, KernelRefused, has_ipv6
from netctl.plan import Operation
from netctl.state import Held, State

FOREIGN_SECONDS = 2.0
"""wireguard-go makes its tun a moment before it answers for it; only what stays foreign is."""
LOOK_SECONDS = 0.02


class Reconciler:
    """Owner of all changes; used from one asyncio loop."""

    def __init__(self, fleet: Fleet, kernel: Kernel) -> None:
        self._fleet = fleet
        self._kernel = kernel
        self._ipv6 = has_ipv6()
        self._own = {worker.interface for worker in fleet.members}
        self._known: dict[int, State] = {}
        # One thread for each of the two raw sockets in netctl.sockets, so that each has one user at a time.
        self._threads = [
            ThreadPoolExecutor(max_workers=1, thread_name_prefix=name) for name in ("sockets", "conntrack")
        ]
        self._log = log.get("netctl")

    async def look(self, *, devices: bool = True) -> Found:
        """Observe the kernel; raises ForeignObject, naming everything, when that stays so for a moment."""
        deadline = time.monotonic() + FOREIGN_SECONDS
        while True:
            found = await self._kernel.observe(devices=devices)
            if not found.foreign:
                return found
            if time.monotonic() > deadline:
                raise ForeignObject(
                    "\n".join(f"not ours, inside the fleet's marks: {what}" for what, _ in found.foreign),
                    hint="look at it: " + "; ".join(dict.fromkeys(command for _, command in found.foreign)),
                )
            await asyncio.sleep(LOOK_SECONDS)

    def desired(self, held: Mapping[int, Held]) -> State:
        """What the whole kernel should hold."""
        return state.desired(self._fleet, held, kind=self._kernel.backend.link_kind, ipv6=self._ipv6)

    async def plan(self, held: Mapping[int, Held]) -> tuple[Operation, ...]:
        """What settle_all would do."""
        return plan.diff(self.desired(held), (await self.look()).state)

    async def settle_all(self, held: Mapping[int, Held]) -> None:
        """Bring everything to HELD, by UID."""
        self._known.clear()
        wanted, found = self.desired(held), (await self.look()).state
        await self._apply(plan.diff(wanted, found))
        there = {link.interface for link in found.links if link.kind == self._kernel.backend.link_kind}
        for worker in self._fleet.members:
            if worker.interface in there or self._kernel.backend.link_kind == "wireguard":
                self._known[worker.uid] = state.slice_of(wanted, worker)

    async def settle(self, worker: Worker, held: Held | None) -> None:
        """Bring one worker's slice to HELD. On any error its gate is no further open than it was."""
        try:
            await self._settle(worker, held)
        except KernelRefused as error:
            # Somebody changed what we rest on; reloading a firewall flushes every table there is.
            self._log.warning("kernel.changed", worker=worker.name, error=str(error))
            await self.mend()
            await self._settle(worker, held)

    async def _settle(self, worker: Worker, held: Held | None) -> None:
        wanted = self._slot(worker, held)
        known = self._known.pop(worker.uid, None)
        if known is None and held is None:
            found = await self._kernel.observe()
            if found.foreign:
                await self._shut(worker, state.slice_of(found.state, worker))
                return
            known = state.slice_of(found.state, worker)
        elif known is None:
            known = state.slice_of((await self.look()).state, worker)
        await self._apply(plan.diff(wanted, known))
        if known.links or any(link.kind == "wireguard" for link in wanted.links):
            self._known[worker.uid] = wanted

    async def _shut(self, worker: Worker, seen: State) -> None:
        """Gate closed, key and peer gone, nothing else touched: a stranger's object keeps no slot open."""
        self._log.warning("slot.shut", worker=worker.name, reason="foreign objects inside the fleet's marks")
        devices = frozenset(state.Device(interface=link.interface) for link in seen.links)
        await self._apply(plan.diff(replace(seen, gates=frozenset(), devices=devices), seen))

    def _slot(self, worker: Worker, held: Held | None) -> State:
        return state.slot(self._fleet, worker, held, kind=self._kernel.backend.link_kind, ipv6=self._ipv6)

    async def mend(self) -> State:
        """Bring back what all workers share, with every gate closed if the table was gone; what was seen.

        Each worker's gate opens again when its own slice is settled, under its own lock.
        """
        found = (await self.look(devices=False)).state
        wanted = state.shared(self._fleet)
        seen = State(
            filters=found.filters, sysctls=frozenset(one for one in found.sysctls if one.path[3] not in self._own)
        )
        operations = plan.diff(wanted, seen)
        if operations:
            self._known.clear()
            self._log.warning("kernel.mended", commands=[str(operation) for operation in operations])
            await self._apply(operations)
            found = (await self.look(devices=False)).state
        return found

    def differs(self, worker: Worker, held: Held | None, seen: State) -> bool:
        """Whether WORKER's slice in SEEN (without devices) is not what HELD asks for."""
        wanted = replace(self._slot(worker, held), devices=frozenset())
        return bool(plan.diff(wanted, replace(state.slice_of(seen, worker), devices=frozenset())))

    async def _apply(self, operations: tuple[Operation, ...]) -> None:
        for operation in operations:
            self._log.debug("kernel.change", command=str(operation))
        await self._kernel.apply(operations)

    def forget(self, worker: Worker) -> None:
        """Something outside of us changed in WORKER's range: look again before the next change."""
        self._known.pop(worker.uid, None)

    async def device_ready(self, worker: Worker, deadline: float) -> None:
        """Wait until WORKER's device answers (monotonic DEADLINE); raises TunnelError."""
        if worker.uid in self._known:
            return
        backend = self._kernel.backend
        while backend.link_kind == "tun" and await backend.read(worker.interface) is None:
            if time.monotonic() > deadline:
                raise TunnelError(
                    f"{worker.interface} did not appear: wireguard-go is not running or does not answer",
                    hint=f"supervisorctl status wg:{worker.interface}",
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def end_sockets(self, source: IPv4Address) -> None:
        """Abort every socket of SOURCE, beside whatever else is waited for."""
        await self._in_thread(0, "sockets.ended", partial(sockets.end_sockets, source))

    async def sweep(self, source: IPv4Address) -> None:
        """Abort every socket and conntrack entry of SOURCE."""
        await self.end_sockets(source)
        await self._in_thread(1, "conntrack.ended", partial(sockets.forget_connections, source))

    async def _in_thread(self, thread: int, action: str, work: Callable[[], int]) -> None:
        try:
            count = await asyncio.get_running_loop().run_in_executor(self._threads[thread], work)
        except OSError as error:
            # A kernel that refuses leaves them to their time-outs; the gate and the last chain hold anyway.
            self._log.warning(f"{action}.failed", error=str(error))
        else:
            self._log.debug(action, count=count)

    def sweep_later(self, source: IPv4Address, translated_to: IPv4Address) -> None:
        """End SOURCE's conntrack entries of an earlier lease without waiting: 12 ms that no reply needs.

        Until they are gone the table's last chain drops what they translate.
        """
        self._threads[1].submit(sockets.forget_connections, source, translated_to).add_done_callback(self._swept)

    def _swept(self, future: Future[int]) -> None:
        if error := future.exception():
            self._log.error("conntrack.not_ended", error=str(error))

    def close(self) -> None:
        """Let the threads end."""
        for thread in self._threads:
            thread.shutdown()
