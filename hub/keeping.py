"""Removes what is too old or too much, and checks that the disk has room for new results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Set
from functools import partial
from pathlib import Path

from fleet import log
from fleet.db import Database
from fleet.errors import DatabaseFailed
from fleet.machine.room import room
from fleet.settings.hub import KeepSettings
from hub.delivery.sending import Do
from hub.queue import expiry, rollups

PASS_SECONDS = 600.0
MOST_FILES = 5000
"""The most that workers are told to remove in one pass."""
_DAY_SECONDS = 86_400.0
_SAY_AGAIN_SECONDS = 3600.0


class Keeping:
    """Removes results of HOST as SETTINGS say.

    TELL gets the names of the pictures that each worker may remove, and returns who is a worker.
    """

    def __init__(
        self,
        database: Database,
        host: str,
        settings: KeepSettings,
        do: Do,
        tell: Callable[[dict[str, list[str]]], Set[str]],
    ) -> None:
        self._database, self._host, self._settings, self._do, self._tell = database, host, settings, do, tell
        self._log = log.get("hub")

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self.once()
            except DatabaseFailed as error:
                self._log.error("database.failed", error=error.message)
            await asyncio.sleep(PASS_SECONDS)

    async def once(self) -> None:
        """Remove pictures, then answers, then runs, in small transactions, so that no one waits long for them."""
        own = self._settings
        stale = await self._do(self._stale)
        names: dict[str, list[str]] = {}
        for worker, name in stale:
            names.setdefault(worker, []).append(name)
        for worker in names.keys() - self._tell(names):  # a former worker: its pictures cannot be removed by it
            await self._do(partial(self._forget, worker, names[worker]))
        counts = {"pictures": len(stale)}
        steps = {"answers": (expiry.clear_answers, own.answers_days), "runs": (expiry.drop_runs, own.runs_days)}
        for what, (work, days) in steps.items():
            counts[what] = 0
            while count := await self._do(partial(self._aged, work, days)):
                counts[what] += count
        for span, days in {**rollups.KEPT_DAYS, "day": own.runs_days}.items():
            while await self._do(partial(self._aged, partial(rollups.drop, span=span), days)):
                pass
        if any(counts.values()):
            self._log.info("results.let_go", **counts)

    def _stale(self) -> list[tuple[str, str]]:
        own, size = self._settings, float(self._settings.pictures_mebibytes << 20)
        return self._database.run(
            lambda db: expiry.stale(db, self._host, self._before(db, own.pictures_days), size, MOST_FILES)
        )

    def _forget(self, worker: str, names: list[str]) -> None:
        self._database.run(lambda db: expiry.forget(db, self._host, worker, names))

    def _aged(self, work: Callable[..., int], days: float) -> int:
        return self._database.run(lambda db: work(db, before=self._before(db, days)))

    def _before(self, db: object, days: float) -> float:
        return self._database.now(db) - days * _DAY_SECONDS  # type: ignore[arg-type]


class Space:
    """Whether the disks of FOLDERS have room: warns long before, and without room no work begins."""

    def __init__(self, folders: Iterable[Path], free_mebibytes: int) -> None:
        self._folders, self._least = [*folders], free_mebibytes
        self._log = log.get("hub")
        self._said, self._said_at = "has_room", 0.0

    def is_full(self) -> bool:
        """Whether no work may begin."""
        found, now = room(self._folders, self._least), time.monotonic()
        state = found.state
        if state != self._said or (state != "has_room" and now - self._said_at > _SAY_AGAIN_SECONDS):
            self._said, self._said_at = state, now
            say = self._log.info if state == "has_room" else self._log.warning
            say(f"disk.{state}", folder=str(found.folder), free_mebibytes=found.free_mebibytes, least=self._least)
        return state == "full"
