"""What goes when there is too much, on both engines: never what has still to be delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from fleet.settings.hub import KeepSettings
from hub.delivery.outbox import Outbox, recorder
from hub.keeping import Keeping
from hub.queue import expiry, rollups
from hub.queue.store import Store
from hub.queue.values import Picture
from tests.queues import FREE, Queue, ending, jobs

T = TypeVar("T")
DAY_SECONDS = 86_400.0


class Keeper:
    """A host that keeps by SETTINGS."""

    def __init__(self, queue: Queue, settings: KeepSettings) -> None:
        self.queue, hub = queue, queue.hub("h1")
        self.host, self.store = hub.host, Store(queue.database, lambda: None, FREE, recorder("h1"))
        self.told: dict[str, list[str]] = {}
        self.keeping = Keeping(queue.database, "h1", settings, self.do, self._tell)

    async def do(self, work: Callable[[], T]) -> T:
        """At once."""
        return work()

    def _tell(self, names: dict[str, list[str]]) -> set[str]:
        self.told = names
        return {"w1"}

    def run(self, *targets: str, days: float = 0, worker: str = "w1") -> int:
        """A run of WORKER with a picture of 1 MiB, and so many DAYS after it; its job."""
        (receipt,) = self.store.add(jobs("a", targets=targets))
        self.store.enlist(self.host, 60, version="0", settings="")
        (claimed,) = self.store.claim(self.host, [worker]).jobs
        picture = Picture(name=f"{claimed.job}.png", sha256="0" * 64, size_bytes=1 << 20)
        self.store.finish([ending(claimed, answer={"n": 1}, details={"requests": 1}, pictures=(picture,))])
        self.queue.ahead(days * DAY_SECONDS)
        return receipt.job

    def once(self) -> list[str]:
        """A pass; the pictures that its worker may take away, which it does."""
        asyncio.run(self.keeping.once())
        names = self.told.get("w1", [])
        self.queue.database.run(lambda db: expiry.forget(db, "h1", "w1", names))
        return names

    def left(self) -> list[tuple[int, bool]]:
        """The runs that are known, and whether their answers are."""
        return [(job, answer is not None) for job, answer in self.queue.rows("SELECT job, answer FROM runs ORDER BY 1")]


def test_results_go_down_the_ladder_by_age(queue: Queue) -> None:
    """Pictures first, then answers, then runs; what waits to be delivered stays whole, and goes once it is."""
    keeper = Keeper(queue, KeepSettings(pictures_days=10, answers_days=20, runs_days=30))
    old, waits, young = keeper.run(days=0), keeper.run("owner", days=5), keeper.run(days=6)
    assert keeper.once() == [f"{old}.png"]
    assert keeper.left() == [(old, True), (waits, True), (young, True)]
    queue.ahead(10 * DAY_SECONDS)
    assert keeper.once() == [f"{young}.png"]
    assert keeper.left() == [(old, False), (waits, True), (young, True)]
    queue.ahead(10 * DAY_SECONDS)
    assert keeper.once() == [] and keeper.left() == [(waits, True), (young, False)]
    box = Outbox(queue.database, "h1")
    box.arrived(box.due(9)[0][0].id, {"status": 200})
    queue.ahead(10 * DAY_SECONDS)
    assert keeper.once() == [f"{waits}.png"] and keeper.left() == [(waits, True)]
    assert keeper.once() == [] and keeper.left() == []
    assert [queue.one(f"SELECT count(*) FROM {table}") for table in ("pictures", "delivered")] == [0, 0]


def test_the_oldest_pictures_go_when_they_are_too_many(queue: Queue) -> None:
    """By their size, down to what may be; a worker takes away its own alone."""
    keeper = Keeper(queue, KeepSettings(pictures_mebibytes=2))
    made = [keeper.run(days=0.01) for _ in range(5)]
    queue.database.run(lambda db: expiry.forget(db, "h1", "w2", [f"{job}.png" for job in made]))
    assert keeper.once() == [f"{job}.png" for job in made[:3]]
    assert keeper.once() == []


def test_many_runs_of_one_moment_are_all_looked_at(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes a few at a time neither stands still nor leaves any out."""
    keeper = Keeper(queue, KeepSettings(pictures_days=1, answers_days=1, runs_days=1000))
    monkeypatch.setattr(expiry, "_AGED", expiry._AGED.limit(3))
    for _ in range(8):
        keeper.run()
    queue.change("UPDATE runs SET ended_at = 1000 + job / 3")
    keeper.once()
    assert not any(answer for _, answer in keeper.left()) and len(keeper.left()) == 8


def test_pictures_of_who_is_no_worker_any_more_stand_in_nobodys_way(queue: Queue) -> None:
    """Nobody takes them away: they are known no more once they are old, and their runs go in their turn."""
    keeper = Keeper(queue, KeepSettings(pictures_days=1, runs_days=2))
    keeper.run(worker="w9"), keeper.run(days=3)
    keeper.once()
    assert queue.one("SELECT count(*) FROM pictures") == 0 and len(keeper.left()) == 1
    keeper.once()
    assert keeper.left() == []


def test_counts_by_minute_go_and_those_by_day_stay_as_long_as_runs(queue: Queue) -> None:
    """Also those of sites with no work any more; none is counted twice or lost meanwhile."""
    keeper = Keeper(queue, KeepSettings(runs_days=200))
    for days in (1.5, 50, 60, 150):
        keeper.run(days=days)
    keeper.once()
    left = {span: queue.one(f"SELECT count(*) FROM rollups WHERE span_seconds = {span}") for span in (60, 3600, 86_400)}
    assert left == {60: 0, 3600: 0, 86_400: 1}
    keeper.run(days=0.01)
    keeper.once()
    assert sum(one.runs for one in queue.database.run(lambda db: rollups.counts(db, "minute", 0))) == 1
