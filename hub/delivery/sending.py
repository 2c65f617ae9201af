"""Sends what is in the outbox, a few at a time, and records the results; sleeps while there is nothing to send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from pydantic import JsonValue

from fleet import log
from fleet.errors import DatabaseFailed
from fleet.outside.calls import Later, Refused
from fleet.sockets.deadline import set_within
from hub.delivery.outbox import Delivery, Outbox

AT_ONCE = 8
AGAIN_SECONDS = 5.0
"""Pause after an error of the database."""
T = TypeVar("T")
Carry = Callable[[Delivery], Awaitable[JsonValue]]
"""Delivers a run and returns the target's answer. Raises Later or Refused."""


class Do(Protocol):
    """Runs work in the database's thread."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """The result of WORK."""


class Sender:
    """Sends what is in OUTBOX until it is cancelled, by the carrier with the target's name (up to a colon)."""

    def __init__(self, outbox: Outbox, carriers: Mapping[str, Carry], do: Do) -> None:
        self._outbox, self._carriers, self._do = outbox, carriers, do
        self._log = log.get("hub")
        self.rung = asyncio.Event()
        """Set it when a run has ended."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self.rung.clear()
            try:
                sent, seconds = await self.once()
            except DatabaseFailed as error:  # what was sent meanwhile is sent again, and its target recognises it
                self._log.error("database.failed", error=error.message)
                sent, seconds = 0, AGAIN_SECONDS
            if not sent:
                await set_within(seconds, self.rung)

    async def once(self) -> tuple[int, float | None]:
        """Send some of what is due; returns how many, and seconds until the next."""
        due, seconds = await self._do(lambda: self._outbox.due(AT_ONCE))
        await asyncio.gather(*map(self._one, due))
        return len(due), seconds

    async def _one(self, run: Delivery) -> None:
        known = {"target": run.target, "job": run.job, "fence": run.fence, "tries": run.tries + 1}
        try:
            carry = self._carriers.get(run.target.partition(":")[0])
            if carry is None:
                raise Refused(f"fleet.toml no longer has {run.target}")
            answer: JsonValue = await carry(run)
        except Refused as error:
            why = str(error)
            self._log.error("upload.refused", reason=why, **known)
            await self._do(lambda: self._outbox.refused(run.id, why))
        except Later as error:
            why, wait = str(error), error.wait_seconds
            self._log.warning("upload.later", reason=why, **known)
            await self._do(lambda: self._outbox.later(run.id, why, wait))
        except Exception as error:  # noqa: BLE001 - a fault in one delivery stops no other
            why = f"{type(error).__name__}: {error}"
            self._log.exception("upload.crashed", **known)
            await self._do(lambda: self._outbox.later(run.id, why))
        else:
            self._log.info("upload.arrived", **known)
            kept = answer if isinstance(answer, dict) else None
            await self._do(lambda: self._outbox.arrived(run.id, kept))
