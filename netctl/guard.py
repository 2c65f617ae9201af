"""Brings back what somebody else took away: told by the kernel's notifications, and by a look now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from fleet import log
from fleet.errors import FleetError
from fleet.model import Fleet
from netctl import state, watch
from netctl.hold import Hold
from netctl.reconcile import Reconciler
from netctl.slots import Slot
from netctl.state import State
from netctl.tunnels import Tunnels

GUARD_SECONDS = 3.0
WATCH_PAUSE_SECONDS = 1.0


class Guard:
    """Watches over the slots of TUNNELS, for ever."""

    def __init__(self, fleet: Fleet, tunnels: Tunnels, reconciler: Reconciler) -> None:
        (self._filter,) = state.shared(fleet).filters
        self._hold = Hold()
        self._tunnels = tunnels
        self._reconciler = reconciler
        self._repairs: dict[int, asyncio.Task[None]] = {}
        self._log = log.get("netctl")

    async def start(self) -> None:
        """Hold every worker back, before anything opens."""
        await self._hold.make(self._filter)

    def close(self) -> None:
        """Let go."""
        self._hold.close()

    async def look(self) -> None:
        """Look every few seconds, for ever, and bring back what somebody else took away.

        A firewall's reload flushes our table, systemd-networkd removes rules it did not make. It is logged
        each time and not fought: at most once in GUARD_SECONDS, and rarer where a look takes long.
        """
        pause = GUARD_SECONDS
        while True:
            await asyncio.sleep(pause)
            started = time.monotonic()
            try:
                if self._hold.lost():
                    await self._hold.make(self._filter)
                seen = await self._reconciler.mend()
                for slot in self._tunnels.slots.values():
                    await self._bring_back(slot, seen)
            except (FleetError, OSError) as error:
                self._log.error("guard.failed", error=str(error))
            pause = max(GUARD_SECONDS, 30 * (time.monotonic() - started))

    async def _bring_back(self, slot: Slot, seen: State) -> None:
        """SLOT is as it should be, or it is logged why not: one worker's trouble is not its neighbours'."""
        # Whoever holds the lock is changing the slice; the next look will see what came of it.
        if slot.lock.locked() or not self._reconciler.differs(slot.worker, slot.held, seen):
            return
        self._log.warning("slot.differs", worker=slot.worker.name)
        self._reconciler.forget(slot.worker)
        try:
            async with slot.lock:
                await self._reconciler.settle(slot.worker, slot.held)
        except (FleetError, OSError) as error:
            self._log.error("slot.not_brought_back", worker=slot.worker.name, error=str(error))

    async def watch(self) -> None:
        """Links of ours that come or go: wireguard-go ended, or was started again."""
        while True:
            try:
                async for notice in watch.notices(addresses=False):
                    worker = notice.worker
                    if worker is None or worker.uid not in self._tunnels.slots:
                        continue
                    if notice.kind != "RTM_NEWLINK" or notice.alias != worker.alias or not notice.up:
                        self._repair(worker.uid)
            except OSError as error:
                # ENOBUFS: more came than we read, so anything may have changed.
                self._log.warning("watch.restarted", error=str(error))
                for uid in self._tunnels.slots:
                    self._repair(uid)
                await asyncio.sleep(WATCH_PAUSE_SECONDS)

    def _repair(self, uid: int) -> None:
        before = self._repairs.get(uid)
        if before is None or before.done():
            self._repairs[uid] = background(self._tunnels.repair(uid))


def background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start WORK; an error that nobody waits for is logged."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.get("netctl").error("background.failed", error=f"{type(error).__name__}: {error}")
