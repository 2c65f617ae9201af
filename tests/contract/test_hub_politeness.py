"""A hundred sites and two hubs at the same time, on both engines: never early, never too many, and never idle.

`--steps 200000`: four hundred sites. Time is the test's own: it goes from one event to the next, and no load of the
machine moves it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from hub.queue import politeness
from hub.queue.values import Claimed, Claims, Job, Pace
from tests.queues import STANDING, Hub, Queue, jobs

SITES, MANY_SITES, MANY_STEPS = 100, 400, 2000
JOBS_EACH = 6
HUBS = ("h1", "h2")


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


@pytest.fixture
def sites(request: pytest.FixtureRequest) -> int:
    """How many."""
    return MANY_SITES if request.config.getoption("--steps") > MANY_STEPS else SITES


def run(queue: Queue, sites: int, pace: Pace, seconds: float) -> Seen:
    """Work off all jobs of all SITES by two hubs at the same time; each run takes SECONDS."""
    hubs = [queue.hub(name, pace, STANDING) for name in HUBS]
    for hub in hubs:
        hub.store.enlist(hub.host, 1e6, version="", settings="")
    hubs[0].store.add([Job(site=f"s{n % sites}", task="visit") for n in range(sites * JOBS_EACH)])
    seen, now = Seen(), 0.0
    ends: list[tuple[float, int, Hub, Claimed]] = []
    with ThreadPoolExecutor(len(hubs)) as threads:
        while True:
            looks = list(threads.map(lambda hub: hub.look(sites // 4), hubs))
            for hub, found in zip(hubs, looks, strict=True):
                for one in found.jobs:
                    seen.begin(one.site, now, hub.host.name)
                    heapq.heappush(ends, (now + seconds, one.job, hub, one))
            if any(found.jobs for found in looks):
                continue
            following = _next(looks, now, [ends[0][0]] if ends else [])
            if following is None:
                return seen
            queue.ahead(following - now)
            now = following
            _finish(seen, ends, now)


def _next(looks: list[Claims], now: float, ends: list[float]) -> float | None:
    alarms = [now + found.next_seconds for found in looks if found.next_seconds is not None]
    return min([*alarms, *ends], default=None)


def _finish(seen: Seen, ends: list[tuple[float, int, Hub, Claimed]], now: float) -> None:
    over: dict[Hub, list[Claimed]] = defaultdict(list)
    while ends and ends[0][0] <= now + 1e-9:
        _, _, hub, one = heapq.heappop(ends)
        over[hub].append(one)
        seen.running[one.site] -= 1
    for hub, claimed in over.items():
        hub.end_all(claimed)


def test_an_interval_is_kept_and_reached(queue: Queue, sites: int) -> None:
    """Many sites, half a second apart, quick runs: no beginning is early, and every site's are half a second apart."""
    seen = run(queue, sites, Pace(interval_seconds=0.5, most=2), 0.2)
    assert sorted(map(len, seen.began.values())) == [JOBS_EACH] * sites
    gaps = [gap for site in seen.began for gap in seen.gaps(site)]
    assert min(gaps) >= 0.5 - 1e-6, "early"
    assert max(gaps) < 0.5 + 1e-6, "a site waited for nothing"
    assert min(seen.by.values()) > sites, f"both hubs work: {dict(seen.by)}"


def test_most_at_once_is_kept_and_reached(queue: Queue, sites: int) -> None:
    """Many sites, at most two at once, long runs: never three, always two while there is work."""
    seen = run(queue, sites, Pace(interval_seconds=0.1, most=2), 1.0)
    assert set(seen.most.values()) == {2}
    for times in seen.began.values():
        assert times == pytest.approx([0, 0.1, 1.0, 1.1, 2.0, 2.1], abs=1e-6), "each begins when it may"


def test_a_planted_impatience_is_seen(queue: Queue, sites: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a queue that forgets when a site was asked last is early."""
    monkeypatch.setattr(politeness.Site, "pace_seconds", 0.0)
    seen = run(queue, sites, Pace(interval_seconds=0.5, most=2), 0.2)
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
