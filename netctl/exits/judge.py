"""Decides which exit address of a key is valid, by its source.

    its file     `# ExitAddress =`: binding, nothing changes it
    netctl       its own check through the key's tunnel: learned, valid for `egress.learned_hours`
    two workers  that reported the same address, each over a lease of its own, where netctl's check has no answer

The report of one worker is only a claim. It makes netctl check, and ends that worker's loop if netctl sees another
address; nothing else. The host's own addresses are never accepted as an exit, from any source.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address

from fleet import log
from fleet.errors import Unproved, WrongExit
from fleet.model import Fleet, Worker
from fleet.sockets.deadline import within
from fleet.sockets.wire import Address
from netctl.exits.own import OwnAddresses
from netctl.exits.probe import Seen
from netctl.pool.contract import Lease
from netctl.pool.threaded import ThreadedPool
from netctl.slots.slot import Slot
from netctl.slots.suspects import in_words

WAIT_SECONDS = 12.0
"""How long a worker waits for netctl's own check: less than its request may take."""
AGAIN_SECONDS = 60.0
"""A key is checked at most once in this time, no matter what workers report."""
LOOKS_AT_ONCE = 2


Through = Callable[[Worker, str, str], Awaitable[Seen]]
"""Checks through a tunnel: netctl.exits.probe.Probe.through."""


class Judge:
    """Knows the exits of all keys. INTERFACE names a slot's link, THROUGH checks through a tunnel, OWN are this host's
    addresses."""

    def __init__(
        self, fleet: Fleet, pool: ThreadedPool, interface: Callable[[Slot], str], through: Through, own: OwnAddresses
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._interface = interface
        self._through = through
        self._own = own
        self._looks: dict[int, tuple[float, asyncio.Task[Address | None]]] = {}
        """By key id: when the latest check began (monotonic seconds), and its task."""
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._claimed: dict[int, str] = {}
        """By UID: the lease whose exit its worker has reported. Only the first report over a lease counts."""
        self._log = log.get("netctl")

    def exit_of(self, lease: Lease) -> Address | None:
        """The exit address of LEASE's key; None where it is not known or was learned too long ago."""
        learned = lease.learned_at
        # A time in the future was written while the clock was wrong: treat it as expired.
        counts = learned is None or self._since() <= learned <= time.time()
        return lease.key.exit_address if counts else None

    def _since(self) -> float:
        """What was learned or claimed before this time (seconds since the epoch) is not valid any more."""
        return time.time() - self._fleet.egress.learned_hours * 3600

    def leased(self, slot: Slot, lease: Lease) -> None:
        """SLOT has LEASE now: if its exit is not known, start a check, while the worker goes on."""
        if self.exit_of(lease) is None:
            self._look(slot, lease)

    async def heard(self, slot: Slot, lease: Lease, address: Address) -> None:
        """The worker of LEASE reports that the internet sees ADDRESS; raises WrongExit where that is wrong."""
        if not isinstance(address, IPv4Address):
            await self._refuse_own(address)  # IPv6 exits are not learned
            return
        known = self.exit_of(lease)
        if address == known:
            return
        if known is not None and lease.learned_at is None:
            raise WrongExit(f"the world sees {address}, the key's file names {known}")
        agreed = await self._claim(lease, address)
        seen = await self._seen(slot, lease)
        if seen is not None and seen != address:
            raise WrongExit(f"the world sees {address} of the worker, and {seen} of netctl through the same tunnel")
        if seen is None:
            await self._refuse_own(address)
            if agreed:
                await self._learn(slot, lease, address, "two workers")

    async def _claim(self, lease: Lease, address: Address) -> bool:
        """Whether another worker has reported the same ADDRESS of the key. Only the first claim per lease counts."""
        if self._claimed.get(lease.uid) == lease.id:
            return False
        self._claimed[lease.uid] = lease.id
        return await self._pool.claim(lease, address, self._since())

    async def _refuse_own(self, address: Address) -> None:
        try:
            own = await self._own.known(address)
        except Unproved as error:
            raise WrongExit(f"{address} cannot be judged as an exit: {error.message}", hint=error.hint) from None
        if address in own:
            raise WrongExit(f"the world sees {address}, an address of this host: nothing went through the tunnel")

    async def _seen(self, slot: Slot, lease: Lease) -> Address | None:
        """The exit address that netctl itself sees; None without an answer within WAIT_SECONDS."""
        try:
            return await within(WAIT_SECONDS, _outlived(self._look(slot, lease)))
        except asyncio.TimeoutError:
            return None

    def _look(self, slot: Slot, lease: Lease) -> asyncio.Task[Address | None]:
        """The running or recent check of LEASE's key; if there is none, start one."""
        now = time.monotonic()
        if lease.key_id in self._looks:
            begun, before = self._looks[lease.key_id]
            if not before.done() or now - begun < AGAIN_SECONDS:
                return before
        task = asyncio.ensure_future(self._guarded(slot, lease))
        self._looks[lease.key_id] = now, task
        return task

    async def _guarded(self, slot: Slot, lease: Lease) -> Address | None:
        try:
            return await self._looked(slot, lease)
        except Exception as error:  # noqa: BLE001 - a check that fails only leaves the exit unknown
            self._log.warning("exit.not_seen", worker=slot.worker.name, reason=in_words(error))
            return None

    async def _looked(self, slot: Slot, lease: Lease) -> Address | None:
        found = Seen(trouble="its lease has ended")
        async with self._turns:
            if slot.holds(lease):
                space = self._fleet.walls.space(slot.worker)
                found = await self._through(slot.worker, self._interface(slot), space)
        if not slot.holds(lease):
            # The lease ended meanwhile: an address that was seen all the same may be the next lease's exit.
            self._looks.pop(lease.key_id, None)
            return None
        if not found.addresses:
            raise Unproved(found.trouble)
        seen = found.addresses[0]
        if seen in await self._own.known(seen):
            self._log.error("exit.is_this_host", worker=slot.worker.name, file=lease.origin, address=str(seen))
            return None
        await self._learn(slot, lease, seen, "netctl")
        return seen

    async def _learn(self, slot: Slot, lease: Lease, address: Address, seen_by: str) -> None:
        before = lease.key.exit_address
        await self._pool.learn_exit(lease.key_id, address)
        if slot.lease is not None and slot.lease.id == lease.id:
            key = replace(slot.lease.key, exit_address=address)
            slot.lease = replace(slot.lease, key=key, learned_at=time.time())
        (self._log.info if before in (None, address) else self._log.warning)(
            "exit.learned" if before in (None, address) else "exit.moved",
            worker=slot.worker.name,
            server=lease.key.server,
            key=lease.key_id,
            file=lease.origin,
            address=str(address),
            before=str(before) if before else None,
            seen_by=seen_by,
        )

    async def close(self) -> None:
        """Cancel all checks."""
        tasks = [task for _, task in self._looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outlived(task: asyncio.Task[Address | None]) -> Address | None:
    """TASK's result; a caller that stops waiting does not cancel TASK for the others."""
    return await asyncio.shield(task)
