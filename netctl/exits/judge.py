"""Which exit of a key counts, and who may say so.

    its file     `# ExitAddress =`: binding, nothing changes it
    netctl       its own look through the key's tunnel: learned, for `egress.learned_hours`
    two workers  who said the same of the key, each over a lease of its own, where netctl's look has no answer

What one worker says is a claim. It makes netctl look, costs that worker's loop where netctl sees another address, and
changes nothing else. This host's own addresses are no exit, whoever says so.
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
"""How long a worker waits for netctl's own look: less than its request may take."""
AGAIN_SECONDS = 60.0
"""A key is looked at once in this time, whatever is said of it."""
LOOKS_AT_ONCE = 2


Through = Callable[[Worker, str, str], Awaitable[Seen]]
"""Looks through a tunnel: netctl.exits.probe.Probe.through."""


class Judge:
    """Of all keys. INTERFACE names a slot's link, THROUGH looks through a tunnel, OWN are this host's addresses."""

    def __init__(
        self, fleet: Fleet, pool: ThreadedPool, interface: Callable[[Slot], str], through: Through, own: OwnAddresses
    ) -> None:
        self._fleet = fleet
        self._pool = pool
        self._interface = interface
        self._through = through
        self._own = own
        self._looks: dict[int, tuple[float, asyncio.Task[Address | None]]] = {}
        """The latest of each key, and when it was begun (monotonic)."""
        self._turns = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._claimed: dict[int, str] = {}
        """By slot: the lease whose exit its worker has named. Its first word counts."""
        self._log = log.get("netctl")

    def exit_of(self, lease: Lease) -> Address | None:
        """Where LEASE's key comes out, as far as that counts now."""
        learned = lease.learned_at
        # A time to come is one that a clock gone wrong has written: as good as long ago.
        counts = learned is None or self._since() <= learned <= time.time()
        return lease.key.exit_address if counts else None

    def _since(self) -> float:
        """What was learned or claimed before this counts no more."""
        return time.time() - self._fleet.egress.learned_hours * 3600

    def leased(self, slot: Slot, lease: Lease) -> None:
        """LEASE is SLOT's from now on: an exit that is not known is looked at, while its worker goes on."""
        if self.exit_of(lease) is None:
            self._look(slot, lease)

    async def heard(self, slot: Slot, lease: Lease, address: Address) -> None:
        """The worker of LEASE says that the world sees ADDRESS; raises WrongExit where that cannot be."""
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
        """Whether another worker has said the same of LEASE's key; of what one says over a lease the first counts."""
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
        """What netctl itself sees of the key; None without an answer in time."""
        try:
            return await within(WAIT_SECONDS, _outlived(self._look(slot, lease)))
        except asyncio.TimeoutError:
            return None

    def _look(self, slot: Slot, lease: Lease) -> asyncio.Task[Address | None]:
        """The look at LEASE's key that is under way or was done lately; else it begins."""
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
        except Exception as error:  # noqa: BLE001 - a look that fails leaves an exit unknown, and no more
            self._log.warning("exit.not_seen", worker=slot.worker.name, reason=in_words(error))
            return None

    async def _looked(self, slot: Slot, lease: Lease) -> Address | None:
        found = Seen(trouble="its lease has ended")
        async with self._turns:
            if slot.holds(lease):
                space = self._fleet.walls.space(slot.worker)
                found = await self._through(slot.worker, self._interface(slot), space)
        if not slot.holds(lease):
            # Its sockets ended with it; and what was seen all the same may be the next lease's exit.
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
        """Look no further."""
        tasks = [task for _, task in self._looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _outlived(task: asyncio.Task[Address | None]) -> Address | None:
    """TASK's result; whoever stops waiting does not end it for the others."""
    return await asyncio.shield(task)
