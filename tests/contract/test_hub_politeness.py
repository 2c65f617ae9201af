"""Four hundred sites and two hubs, each a process, on both engines: never early, never too many, and never idle.

Time is the test's own: it goes from one event to the next, and no load of the machine moves it.
"""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from hub.queue import politeness
from hub.queue.values import Claimed, Claims, Job, Pace
from tests.queues import STANDING, Hub, Queue, jobs

SITES = 400
JOBS_EACH = 6
HUBS = ("h1", "h2")
PACE_SECONDS = politeness.Site.pace_seconds
_hubs: dict[str, Hub] = {}
"""In the process of a hub: it, by the address of its queue."""


@dataclass
class Seen:
    """What the sites saw, by the test's own account."""

    began: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    running: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    most: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    by: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def begin(self, site: str, at: float, hub: str) -> None:
        """A run of SITE begins."""
        self.began[site].append(at)
        self.running[site] += 1
        self.most[site] = max(self.most[site], self.running[site])
        self.by[hub] += 1

    def gaps(self, site: str) -> list[float]:
        """Between its beginnings."""
        times = self.began[site]
        return [after - before for before, after in itertools.pairwise(times)]


class Process:
    """A hub, in a process of its own."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def begin(self, queue: Queue, name: str, pace: Pace, *, patient: bool) -> None:
        """A hub of that NAME at QUEUE; one that is not PATIENT forgets when a site was asked last."""
        self.address, self.name = queue.address, name
        self.pool.submit(_begin, queue.address, name, pace, patient).result()

    def look(self, count: int) -> Future[Claims]:
        """At most COUNT jobs."""
        return self.pool.submit(_look, self.address, count)

    def end(self, claimed: Sequence[Claimed]) -> Future[None]:
        """Tell the good end of each."""
        return self.pool.submit(_end, self.address, claimed)

    def close(self) -> None:
        """It lets go of the queue."""
        self.pool.submit(_close, self.address).result()


def _begin(address: str, name: str, pace: Pace, patient: bool) -> None:
    setattr(politeness.Site, "pace_seconds", PACE_SECONDS if patient else 0.0)  # noqa: B010 - a planted fault
    _hubs[address] = hub = Queue(address).hub(name, pace, STANDING)
    hub.store.enlist(hub.host, 1e6, version="", settings="")


def _look(address: str, count: int) -> Claims:
    return _hubs[address].look(count)


def _end(address: str, claimed: Sequence[Claimed]) -> None:
    _hubs[address].end_all(claimed)


def _close(address: str) -> None:
    _hubs.pop(address).database.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[list[Process]]:
    """For all tests here: a process takes a second to start."""
    made = [Process() for _ in HUBS]
    yield made
    for one in made:
        one.pool.shutdown()


def run(queue: Queue, processes: list[Process], pace: Pace, seconds: float, *, patient: bool = True) -> Seen:
    """Work off all jobs of all sites by two hubs at the same time; each run takes SECONDS."""
    for process, name in zip(processes, HUBS, strict=True):
        process.begin(queue, name, pace, patient=patient)
    adder = queue.hub("adds", pace, STANDING)
    adder.store.add([Job(site=f"s{n % SITES}", task="visit") for n in range(SITES * JOBS_EACH)])
    seen, now = Seen(), 0.0
    ends: list[tuple[float, int, Process, Claimed]] = []
    while True:
        looks = [told.result() for told in [process.look(SITES // 4) for process in processes]]
        for process, found in zip(processes, looks, strict=True):
            for one in found.jobs:
                seen.begin(one.site, now, process.name)
                heapq.heappush(ends, (now + seconds, one.job, process, one))
        if any(found.jobs for found in looks):
            continue
        following = _next(looks, now, [ends[0][0]] if ends else [])
        if following is None:
            break
        queue.ahead(following - now)
        now = following
        _finish(seen, ends, now)
    for process in processes:
        process.close()
    return seen


def _next(looks: list[Claims], now: float, ends: list[float]) -> float | None:
    alarms = [now + found.next_seconds for found in looks if found.next_seconds is not None]
    return min([*alarms, *ends], default=None)


def _finish(seen: Seen, ends: list[tuple[float, int, Process, Claimed]], now: float) -> None:
    over: dict[Process, list[Claimed]] = defaultdict(list)
    while ends and ends[0][0] <= now + 1e-9:
        _, _, process, one = heapq.heappop(ends)
        over[process].append(one)
        seen.running[one.site] -= 1
    for told in [process.end(claimed) for process, claimed in over.items()]:
        told.result()


def test_an_interval_is_kept_and_reached(queue: Queue, processes: list[Process]) -> None:
    """Many sites, half a second apart, quick runs: no beginning is early, and every site's are half a second apart."""
    seen = run(queue, processes, Pace(interval_seconds=0.5, most=2), 0.2)
    assert sorted(map(len, seen.began.values())) == [JOBS_EACH] * SITES
    gaps = [gap for site in seen.began for gap in seen.gaps(site)]
    assert min(gaps) >= 0.5 - 1e-6, "early"
    assert max(gaps) < 0.5 + 1e-6, "a site waited for nothing"
    assert min(seen.by.values()) > SITES, f"both hubs work: {dict(seen.by)}"


def test_most_at_once_is_kept_and_reached(queue: Queue, processes: list[Process]) -> None:
    """Many sites, at most two at once, long runs: never three, always two while there is work."""
    seen = run(queue, processes, Pace(interval_seconds=0.1, most=2), 1.0)
    assert set(seen.most.values()) == {2}
    for times in seen.began.values():
        assert times == pytest.approx([0, 0.1, 1.0, 1.1, 2.0, 2.1], abs=1e-6), "each begins when it may"


def test_a_planted_impatience_is_seen(queue: Queue, processes: list[Process]) -> None:
    """The control: a queue that forgets when a site was asked last is early."""
    seen = run(queue, processes, Pace(interval_seconds=0.5, most=2), 0.2, patient=False)
    assert min(gap for site in seen.began for gap in seen.gaps(site)) < 0.5


def test_a_crawl_delay_is_kept_over_all_hosts(queue: Queue) -> None:
    """From the run that read it on, until another reads that there is none; one that did not ask changes nothing."""
    one, other = queue.hub("h1"), queue.hub("h2")
    one.store.add(jobs(*"aaaaa"))
    (claimed,) = one.claim()
    one.end(claimed, crawl_delay_seconds=7.0)
    assert other.claim() == [] and 6 < (other.look().next_seconds or 0) <= 7
    queue.ahead(7.001)
    other.store.beat(other.host, 60)
    other.end(other.claim()[0])
    assert one.claim(2) == [] and [site.pace_seconds for site in one.store.sites()] == [7.0]
    queue.ahead(7.001)
    one.store.enlist(one.host, 60, version="0", settings="")
    one.end(one.claim()[0], crawl_delay_seconds=0.0)
    queue.ahead(7.001)
    assert [site.pace_seconds for site in one.store.sites()] == [0.0] and len(one.claim(2)) == 2


def test_no_worker_stops_a_site_for_all_others(queue: Queue) -> None:
    """What it says of robots.txt has a bound."""
    hub = queue.hub()
    hub.store.add(jobs("a"))
    hub.end(hub.claim()[0], crawl_delay_seconds=1e300)
    assert hub.store.sites()[0].pace_seconds == 3600


@pytest.mark.parametrize("addresses", ["postgresql"], indirect=True, scope="session")
def test_a_hub_that_stands_still_dates_no_run_too_early(queue: Queue) -> None:
    """Between its look at the clock and its locks another run ends, a second later: its own begins after that."""
    pace = Pace(interval_seconds=0, most=1)
    one, other = queue.hub("h1", pace), queue.hub("h2", pace)
    one.store.add(jobs("a", "a"))
    (running,) = one.claim()
    waits = [running]

    def before(_db: object, _cursor: object, statement: str, *_: object) -> None:
        if "SKIP LOCKED" in statement and waits:
            queue.ahead(1)
            one.end(waits.pop())

    sa.event.listen(other.database.engine, "before_cursor_execute", before)
    (begun,) = other.claim()
    ended_at = queue.one("SELECT ended_at FROM runs")
    assert not waits and begun.began_at >= ended_at, (begun.began_at, ended_at)
