"""Restores what another program deleted or changed, as soon as the kernel reports it.

A firewall's reload flushes netctl's table, systemd-networkd removes rules it did not make, an administrator sets a link
down. netctl repairs and logs all of that, at a limited rate (RepairPace).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import chain
from typing import Any

from fleet import log
from fleet.errors import FleetError, in_a_line
from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from fleet.sockets.callers import Bucket
from fleet.sockets.deadline import within
from netctl.filter.owned_table import OwnedTable
from netctl.kernel.notifications import Judge, Kind, Notifications, Sign
from netctl.kernel.rtnetlink import link_name
from netctl.kernel.setns import Spaces
from netctl.plan import desired
from netctl.plan.diff import Operation
from netctl.slots.reconcile import Reconciler
from netctl.slots.slot import Slot
from netctl.slots.tunnels import Tunnels

FULL_LOOK_SECONDS = 60.0
"""How often everything is checked: the kernel sends no notification of some changes."""
SHOWN = 20
"""The most commands in one log line."""
BATCH_SECONDS = 0.25
"""How long notifications are collected: a firewall's reload or networkd's restart sends many of them."""
BURST, EVERY_SECONDS = 10, 5.0
"""How many repairs of a kind may follow at once; then one more in every EVERY_SECONDS."""
URGENT = frozenset({Kind.RULES, Kind.TABLES, Kind.LOST})
"""Changes that can affect the kill switch: repaired without waiting for a batch."""


class RepairPace:
    """When to repair: what blocks the workers at once, the rest in batches, and each kind at a limited rate.

    Otherwise netctl and another program could undo each other's changes without end. Pure: the caller passes the time,
    in seconds of any monotonic clock.
    """

    def __init__(self) -> None:
        self._buckets = {kind: Bucket(1 / EVERY_SECONDS, BURST) for kind in Kind}
        self._heard: dict[Kind, float] = {}

    def hear(self, kind: Kind, now: float) -> None:
        """Record that a notification of KIND came at NOW."""
        self._heard.setdefault(kind, now)

    def due(self, now: float) -> float | None:
        """Seconds from NOW until a repair is due; None: nothing was heard."""
        return min((self._wait(kind, now) for kind in self._heard), default=None)

    def take(self, now: float) -> frozenset[Kind]:
        """All kinds that were heard, if one of them is due at NOW, else none; each returned kind counts as a repair.

        One look finds and repairs everything that was heard until then.
        """
        if all(self._wait(kind, now) > 0 for kind in self._heard):
            return frozenset()
        found = frozenset(self._heard)
        self._heard.clear()
        for kind in found:
            self._buckets[kind].take()
        return found

    def _wait(self, kind: Kind, now: float) -> float:
        batched = 0.0 if kind in URGENT else self._heard[kind] + BATCH_SECONDS - now
        return max(batched, self._buckets[kind].wait(now))


class Repair:
    """Repairs the slots of TUNNELS and the shared objects."""

    def __init__(
        self,
        fleet: Fleet,
        tunnels: Tunnels,
        reconciler: Reconciler,
        spaces: Spaces,
        owned_table: OwnedTable,
        *,
        ways_changed: Callable[[], None],
    ) -> None:
        """WAYS_CHANGED is called when an address or a route that is not netctl's has changed."""
        (self._filter,) = reconciler.shared().filters
        self._owned_table = owned_table
        self._ways_changed = ways_changed
        self._fleet = fleet
        self._spaces = spaces
        self._notifications = Notifications(self._hear)
        self._heard_in: dict[str, int] = {}
        """By name: the identity of the namespace whose notifications are subscribed to."""
        self._tunnels = tunnels
        self._reconciler = reconciler
        self._pace = RepairPace()
        self._woken = asyncio.Event()
        self._changed: set[int] = set()
        """UIDs whose links appeared, disappeared or changed."""
        self._repairs: dict[int, asyncio.Task[None]] = {}
        self._log = log.get("netctl")

    async def start(self) -> None:
        """Subscribe to notifications and make the owned table, before any gate opens. Raises ForeignObject."""
        self._listen()
        await self._owned_table.make(self._filter)

    def _listen(self) -> None:
        """Subscribe to the host and to every existing worker namespace; re-subscribe where one was re-created."""
        spaces, walls = self._spaces, self._fleet.walls
        own = {walls.space(worker): worker for worker in self._fleet.members if walls.space(worker) != HOST}
        for space in (HOST, *own):
            spaces.refresh(space)
            if not spaces.there(space) or self._heard_in.get(space) == spaces.identity(space):
                continue
            inside = partial(spaces.inside, space)
            members = self._fleet.members if space == HOST else [own[space]]
            name = partial(_link_name, spaces, space)
            place = {"transit": bool(own)} if space == HOST else {"alone": True}
            judge = Judge(members, self._mtu_bytes, name, **place)
            self._notifications.open(space, judge, inside)
            self._heard_in[space] = spaces.identity(space)

    def _mtu_bytes(self, worker: Worker) -> int:
        slot = self._tunnels.slots.get(worker.uid)
        return desired.mtu_bytes(self._fleet, slot.held if slot else None)

    def close(self) -> None:
        self._notifications.close()
        self._owned_table.close()

    def _hear(self, sign: Sign) -> None:
        if sign.kind is Kind.WAYS:
            self._ways_changed()
            return
        if sign.worker is not None and sign.worker.uid not in self._tunnels.slots:
            return
        if sign.born and sign.worker is not None:
            self._repair(sign.worker.uid)  # its program has just created the link: set it up at once
            return
        if sign.worker is not None:
            self._changed.add(sign.worker.uid)
        self._pace.hear(sign.kind, time.monotonic())
        self._woken.set()

    async def run(self) -> None:
        """Check when something was heard, and every FULL_LOOK_SECONDS; for ever."""
        full = time.monotonic() + FULL_LOOK_SECONDS
        while True:
            await self._wait(full)
            kinds, now = self._pace.take(time.monotonic()), time.monotonic()
            if kinds or now >= full:
                await self._guarded(kinds)
                # A check that takes long is made less often.
                full = time.monotonic() + max(FULL_LOOK_SECONDS, 100 * (time.monotonic() - now))

    async def _wait(self, full: float) -> None:
        """Wait until a repair is due, or until FULL (monotonic)."""
        while True:
            self._woken.clear()
            now = time.monotonic()
            due = self._pace.due(now)
            seconds = min(full - now, full if due is None else due)
            if seconds <= 0:
                return
            try:
                await within(seconds, self._woken.wait())
            except asyncio.TimeoutError:
                return

    async def _guarded(self, kinds: frozenset[Kind]) -> None:
        try:
            await self._look(kinds)
        except (FleetError, OSError) as error:
            self._log.error("repair.failed", error=str(error))

    async def _look(self, kinds: frozenset[Kind]) -> None:
        """Find what is not as it should be, repair it, and log that in one line."""
        self._log.debug("repair.looks", heard=sorted(kind.value for kind in kinds))
        self._listen()
        changed, self._changed = self._changed, set()
        if self._owned_table.lost():
            await self._owned_table.make(self._filter)
        began = time.monotonic()
        found, seen = await self._reconciler.mend()
        slots, links = [], {link.interface for link in seen.links}
        for slot in self._tunnels.slots.values():
            await asyncio.sleep(0)  # requests go on: comparing 512 slots takes 40 ms
            wrong = self._reconciler.difference(slot.worker, slot.held, seen)
            outdated = slot.lock.locked() or self._reconciler.changed_since(slot.worker, began)
            if slot.worker.uid in changed and (wrong or self._tunnels.interface(slot) not in links):
                self._repair(slot.worker.uid)
                found += () if outdated else wrong
            elif wrong and not outdated:
                slots.append(slot)
            elif wrong and kinds:
                # netctl itself has changed this slot since SEEN was read. A look without a sign leaves it to the next.
                self._repair(slot.worker.uid)
        # SEEN may show a flush that was only half done, so log what was changed in the end.
        found += tuple(chain.from_iterable(await asyncio.gather(*(self._bring_back(slot) for slot in slots))))
        if found:
            commands = [str(operation) for operation in found]
            self._log.warning(
                "repair.done",
                heard=sorted(kind.value for kind in kinds),
                commands=commands[:SHOWN],
                more=max(0, len(commands) - SHOWN),
            )

    async def _bring_back(self, slot: Slot) -> tuple[Operation, ...]:
        """Settle SLOT, or log why that failed: a failure does not stop the others.

        Returns what was done.
        """
        try:
            async with slot.lock:
                self._reconciler.forget(slot.worker)
                return await self._reconciler.settle(slot.worker, slot.held)
        except (FleetError, OSError) as error:
            self._log.error("slot.not_brought_back", worker=slot.worker.name, error=in_a_line(error))
            return ()

    def _repair(self, uid: int) -> None:
        """Run one repair per slot at a time; a change seen meanwhile schedules another."""
        before = self._repairs.get(uid)
        if before is not None and not before.done():
            self._changed.add(uid)
            return
        self._repairs[uid] = task = background(self._tunnels.repair(uid))
        task.add_done_callback(lambda _: self._repaired(uid))

    def _repaired(self, uid: int) -> None:
        if uid in self._changed:
            self._pace.hear(Kind.LINKS, time.monotonic())
            self._woken.set()


def _link_name(spaces: Spaces, space: str, index: int) -> str:
    return spaces.inside(space, lambda: link_name(index))


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start WORK, which no caller waits for; its error is logged."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.get("netctl").error("background.failed", error=f"{type(error).__name__}: {error}")
