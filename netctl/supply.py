"""Keys of a key service: fetched ahead, and given back once their leases have ended.

    service ──▶ keyservice (no right, no key kept) ──▶ here: judged, written down ──▶ pool ──▶ lease
       ▲                                                                                        │ ended: the device
       └──────────── keyservice ◀──────────── here: given back until it is confirmed ◀──────────┘ has confirmed

No lease waits for any of this. netctl.pool.lent checks what a service answers. The journal (netctl.pool.issued)
records which keys are still to be given back, also after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fleet import log
from fleet.errors import FleetError, Unanswered
from fleet.model import Fleet
from fleet.settings.keys import KeyServiceSettings
from fleet.sockets import wire
from fleet.sockets.deadline import within
from fleet.sockets.keyservice_api import ANSWERED_SECONDS, Allocate, Allocated, AskStatus, GiveBack
from netctl.pool import issued, lent
from netctl.pool.issued import Due, Given
from netctl.pool.region import region_of
from netctl.pool.threaded import ThreadedPool
from netctl.pool.updates import Found
from netctl.slots.health import Aside
from netctl.slots.repair import background
from netctl.slots.suspects import in_words
from netctl.slots.tunnels import Tunnels

LOOK_SECONDS, FAILED_SECONDS = 0.5, 5.0
AT_ONCE = 8
"""How many requests to the service run at the same time."""
FIRST_SECONDS, LONGEST_SECONDS = 1.0, 15.0
"""How long an address that has failed is not asked again: after the first failure, and at most."""
END_SECONDS = 5.0
"""How long netctl waits for the service when it stops."""
RELEASE, STATUS = "release", "status"
T = TypeVar("T")


class Supply:
    """Fills POOL with keys of the service in SETTINGS, for the workers of FLEET."""

    def __init__(
        self, fleet: Fleet, settings: KeyServiceSettings, path: Path, pool: ThreadedPool, tunnels: Tunnels
    ) -> None:
        """PATH is keyservice's socket."""
        self._settings, self._path, self._pool, self._tunnels = settings, path, pool, tunnels
        self._ahead = settings.ahead or fleet.workers.count
        self._rest = Aside(first_seconds=FIRST_SECONDS, longest_seconds=LONGEST_SECONDS)
        self._troubles: dict[str, str] = {}
        """The last error of each address: RELEASE, STATUS, or for an allocation the server that was asked for."""
        self._told: str | None = None
        self._log = log.get("netctl")

    async def run(self) -> None:
        """Fetch and give back keys, for ever."""
        while True:
            await self._guarded(self.once())

    async def watch(self) -> None:
        """End the leases whose keys the service takes away soon; for ever."""
        while True:
            await self._guarded(self._end_overdue())

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        seconds = LOOK_SECONDS
        try:
            await work
        except Exception as error:  # noqa: BLE001 - after any error there is another round
            self._log.error("supply.failed", error=in_words(error))
            seconds = FAILED_SECONDS
        await asyncio.sleep(seconds)

    async def once(self) -> None:
        """One round: give keys back first, so that the service has room to give new ones."""
        await self._pool.of_service(issued.withdraw)
        if await self._is_well():
            await self._give_back()
            await self._fetch()
        await self._tell()

    async def close(self) -> None:
        """Give back all keys that are not leased, within END_SECONDS; the next start gives back the rest."""
        try:
            await self._pool.of_service(partial(issued.withdraw, everything=True))
            await within(END_SECONDS, self._give_back())
        except (FleetError, asyncio.TimeoutError) as error:
            self._log.warning("supply.not_given_back", error=str(error) or "the service did not answer in time")

    async def _end_overdue(self) -> None:
        for uid, public in await self._pool.of_service(issued.overdue):
            await self._end(uid, public)

    async def _end(self, uid: int, public: str) -> None:
        """End the lease. It happens only to loops longer than the service's time, as a lease lasts for one loop."""
        slot = self._tunnels.slots.get(uid)
        if slot is None:
            return
        async with slot.lock:
            if slot.lease is None or slot.lease.public != public:
                return
            owner = slot.owner
            await self._tunnels.seal(slot, "the key service takes its key away")
        if owner is not None:
            owner.hang_up()

    # --- the service

    async def _is_well(self) -> bool:
        """Whether to ask the service for keys: after a failure, only once its status request (if it has one) succeeds.

        A key that the service allocates after our deadline is lost for an hour.
        """
        if not (self._troubles and self._settings.status):
            return True
        return self._may(STATUS) and await self._tried(STATUS, self._ask(AskStatus(), wire.Done)) is not None

    async def _give_back(self) -> None:
        dues, lost = await self._pool.of_service(issued.due)
        if lost:
            self._log.warning("supply.taken_away", keys=len(lost))
        if not self._may(RELEASE):
            return
        for start in range(0, len(dues), AT_ONCE):
            part = dues[start : start + AT_ONCE]
            done = await asyncio.gather(*(self._tried(RELEASE, self._release(due)) for due in part))
            if back := [due for due in done if due is not None]:
                await self._pool.of_service(partial(issued.returned, publics=[one.public for one in back]))
                for due in back:
                    self._rest.worked(due.asked)
            if len(back) < len(part):
                return

    async def _release(self, due: Due) -> Due:
        await self._ask(GiveBack(back=due.back), wire.Done)
        return due

    async def _fetch(self) -> None:
        stock = await self._pool.of_service(lambda db, _: issued.stock(db))
        lent_by = {server: stock.asked.get(server, 0) for server in self._settings.servers or ("",)}
        wanted: list[str] = []
        for _ in range(min(self._ahead - stock.ready, AT_ONCE)):
            open_ = [server for server in lent_by if self._may(server)]
            if not open_:
                break
            chosen = min(open_, key=lambda server: lent_by[server])
            lent_by[chosen] += 1
            wanted.append(chosen)
        await asyncio.gather(*(self._tried(server, self._allocate(server)) for server in wanted))

    async def _allocate(self, asked: str) -> bool:
        """Put one more key into the pool. Raises Unanswered where the answer has no usable key; it is given back."""
        since = time.clock_gettime(time.CLOCK_BOOTTIME)
        told = await self._ask(Allocate(server=asked), Allocated)
        judged = lent.judged(told, asked)
        # An answer without a public key is recorded too, so that it is given back.
        given = Given(judged.public or json.dumps(told.back), asked, told.back, since, self._settings.minutes * 60)
        key = judged.key
        found = Found(f"key-service-{key.server}", key, region_of(key.server)) if key is not None else None
        if not await self._pool.of_service(lambda db, now: issued.accept(db, now, given, found)):
            raise Unanswered("it gave a key twice, which is not used again")
        if found is None:
            raise Unanswered(f"it gave a key that cannot be used: {judged.why}")
        return True

    async def _ask(self, request: wire.Request, kind: type[wire.ReplyT]) -> wire.ReplyT:
        """The answer of the program keyservice; raises Unanswered, whose message contains nothing of a bad answer."""
        try:
            return await within(self._settings.timeout_seconds + ANSWERED_SECONDS, self._answer(request, kind))
        except Unanswered:
            raise
        except (FleetError, OSError, ValueError, asyncio.TimeoutError):
            raise Unanswered("the program keyservice does not answer; its log says why") from None

    async def _answer(self, request: wire.Request, kind: type[wire.ReplyT]) -> wire.ReplyT:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=wire.REPLY_BYTES)
        try:
            writer.write(wire.encode_request(request))
            return wire.decode_reply(await reader.readline(), kind)
        finally:
            writer.close()

    # --- addresses that have failed

    def _may(self, address: str) -> bool:
        return address not in self._rest.until(time.monotonic())

    async def _tried(self, address: str, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of WORK; None where ADDRESS has failed, which is then not asked for a while."""
        try:
            result = await work
        except Unanswered as error:
            if self._may(address):  # of several requests at the same time only one counts
                self._rest.failed(address, time.monotonic())
            self._troubles[address] = error.message
            return None
        self._rest.worked(address)
        self._troubles.pop(address, None)
        if address == STATUS:
            self._troubles.clear()
        return result

    def _reason(self) -> str:
        """The error to report: that of STATUS, else of RELEASE, else of the first server and how many more fail."""
        if not self._troubles:
            return ""
        name = next((one for one in (STATUS, RELEASE) if one in self._troubles), min(self._troubles))
        others = len(self._troubles) - 1 if name not in (STATUS, RELEASE) else 0
        more = f" ({others} more fail)" if others else ""
        return f"key service: {name or 'allocate'}: {self._troubles[name]}{more}"

    async def _tell(self) -> None:
        """Record and log what is wrong, in one line, if it has changed."""
        words = self._reason()
        if words != self._told:
            await self._pool.of_service(lambda db, _: issued.tell(db, words))
            self._told = words
            (self._log.warning if words else self._log.info)("supply.service", trouble=words)


@contextlib.asynccontextmanager
async def supplied(fleet: Fleet, path: Path, pool: ThreadedPool, tunnels: Tunnels) -> AsyncIterator[None]:
    """Fill POOL from FLEET's key service, if it has one, until the block ends. PATH is the socket of keyservice."""
    source = fleet.keys.source
    await pool.of_service(lambda db, _: issued.tell(db, None if source is None else ""))
    if source is None:
        yield
        return
    supply = Supply(fleet, source, path, pool, tunnels)
    tasks = [background(supply.run()), background(supply.watch())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await supply.close()
