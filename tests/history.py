"""Random work on a queue whose hubs may die between any two statements, and a ledger of what its users were told.

A hub may die before each statement, before each commit, and after a commit before its caller gets the result. Workers
outlive it and report their ends to its next life. The ledger and the tables must agree at any time.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from fleet.db import Database
from fleet.errors import HostFenced
from fleet.outcomes import Ending
from hub.queue.repeat import Interval
from hub.queue.rollups import SPANS
from hub.queue.store import Host, Store
from hub.queue.values import Added, Cancelled, Claimed, Finished, Job, Pace, Priority, Receipt, Taken
from tests.queues import CLOCKS, LEASE_SECONDS, Queue, hasty

T = TypeVar("T")
PACES = {f"free{number}": Pace(interval_seconds=0, most=4) for number in range(6)} | {
    "slow": Pace(interval_seconds=2, most=2),
    "one": Pace(most=1),
}
TOLD: tuple[Ending, ...] = ("good", "good", "empty", "absent", "failed", "limited")
EXITS = ("", "", "", "kr", "jp")
PATIENCE = (None, None, None, 8.0, 90.0)
"""How many seconds callers wait for a job: shorter than one back-off, or as long as several."""
MOST_STATEMENTS = 16


class Died(BaseException):
    """The hub has died: its transaction happened completely or not at all, and the hub does not know which."""


class Mortal(Database):
    """A database whose user may die at any statement. CARELESS plants a fault: each statement is a transaction."""

    def __init__(self, address: str, *, careless: bool = False) -> None:
        super().__init__(address, clock=CLOCKS[sa.make_url(address).get_backend_name()])
        hasty(self)
        self.fuse = 0
        self._careless = careless
        sa.event.listen(self.engine, "before_cursor_execute", self._statement)
        sa.event.listen(self.engine, "commit", lambda _: self._burn())

    def run(self, work: Callable[[sa.Connection], T], *, reading: bool = False) -> T:
        """As in Database, but the user may also die after the commit."""
        result = super().run(work, reading=reading)
        self._burn()
        return result

    def _statement(self, db: sa.Connection, *_: object) -> None:
        if self._careless and db.in_transaction():
            own: Any = db.connection.driver_connection
            own.execute("COMMIT")
            own.execute("BEGIN")
        self._burn()

    def _burn(self) -> None:
        if self.fuse:
            self.fuse -= 1
            if not self.fuse:
                raise Died


class Ledger:
    """What the users of the queue were told."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.keys: dict[str, int | None] = {}
        """Every key that was added, and the newest job number that its caller was told."""
        self.new: set[int] = set()
        """Jobs that were reported as new to a caller."""
        self.cancelled: set[int] = set()
        """Jobs that a hub has tried to cancel."""
        self.claimed: dict[tuple[int, int], Claimed] = {}
        self.held: dict[str, set[tuple[int, int]]] = {}
        """By host, the runs that workers have in hand."""
        self.told: dict[tuple[int, int], tuple[Ending, Taken]] = {}
        """Ends that were acknowledged."""

    def receipt(self, key: str, one: Receipt) -> None:
        """The caller that added KEY was told ONE.

        A repeating job leaves when it is cancelled; KEY may be added again before the canceller has its answer.
        """
        before = self.keys[key]
        if before not in (None, one.job):
            again = one_of(key).repeat is not None and min(before or 0, one.job) in self.cancelled
            assert again, f"{key} is job {one.job}, and was {before}"
        if one.added is Added.NEW:
            assert one.job not in self.new, f"{key} is new again"
            self.new.add(one.job)
        self.keys[key] = max(before or 0, one.job)

    def claims(self, host: str, found: tuple[Claimed, ...]) -> None:
        """Workers of HOST were given FOUND."""
        with self.lock:
            for one in found:
                run = (one.job, one.fence)
                assert run not in self.claimed, f"{run} was claimed twice"
                self.claimed[run] = one
                self.held[host].add(run)

    def ends(self, host: str, one: Finished, taken: Taken) -> None:
        """A worker of HOST was told how its end was TAKEN."""
        run = (one.job, one.fence)
        with self.lock:
            before = self.told.setdefault(run, (one.outcome, taken))
            assert (before[1] is Taken.STALE) == (taken is Taken.STALE), f"{run}: {before}, then {one.outcome} {taken}"
            assert taken is Taken.STALE or before[0] is one.outcome, f"{run}: {before}, then {one.outcome} {taken}"
            self.held[host].discard(run)


def one_of(key: str) -> Job:
    """The job of KEY, always the same, so adding it again adds the same job."""
    own = random.Random(key)
    return Job(
        site=own.choice([*PACES]),
        task="visit",
        key=key,
        priority=own.choice([*Priority]),
        attempts=own.randint(1, 3),
        exit=own.choice(EXITS),
        repeat=Interval(7) if own.random() < 0.05 else None,
        patience_seconds=own.choice(PATIENCE),
    )


class MortalHub:
    """One host that does random work."""

    def __init__(self, queue: Queue, ledger: Ledger, name: str, seed: int, *, careless: bool) -> None:
        self._random = random.Random(f"{seed} {name}")
        self._ledger = ledger
        self._lives = 0
        self._number = 0
        self.name = name
        self.database = Mortal(queue.address, careless=careless)
        self.store = Store(self.database, lambda: None, PACES["one"])
        self._queue = queue
        ledger.held[name] = set()
        self.host = Host(name, "0")
        self.alive = False
        self.begin()
        self._doings: list[tuple[int, Callable[[], None]]] = [
            (6, self.add),
            (12, self.claim),
            (9, self.finish),
            (1, self.beat),
            (3, self.recover),
            (2, self.cancel),
            (1, self.retry),
            (1, self.site),
            (8, lambda: queue.ahead(self._random.choice([0.1, 3, 9]))),
        ]

    def step(self) -> None:
        """Do one thing at random, and perhaps die while doing it."""
        if not self.alive:
            if self._random.random() < 0.12:
                self.living(self.begin)
            return
        weights, doings = zip(*self._doings, strict=True)
        self.living(self._random.choices(doings, weights)[0])

    def living(self, doing: Callable[[], None]) -> None:
        """Run DOING; the hub may die meanwhile."""
        self.database.fuse = 0
        if self._random.random() < 0.25:
            self.database.fuse = self._random.randint(1, MOST_STATEMENTS)
        try:
            doing()
        except (Died, HostFenced):
            self.alive = False
        finally:
            self.database.fuse = 0

    def begin(self) -> None:
        """Begin a new life: runs of the old one that no worker holds end as lost."""
        self._lives += 1
        self.host = Host(self.name, str(self._lives))
        self.store.enlist(self.host, LEASE_SECONDS, version="0", settings="")
        in_hand = self._ledger.held[self.name]
        held = self.store.held(self.host).items()
        lost = [Finished(job=job, fence=one[0], outcome="lost") for job, one in held if (job, one[0]) not in in_hand]
        if lost:
            self.store.finish(lost)
        self.alive = True

    def add(self) -> None:
        """Add new jobs, and again some earlier ones, among them those whose addition was not acknowledged."""
        ledger = self._ledger
        with ledger.lock:
            known = self._random.sample([*ledger.keys], min(2, len(ledger.keys)))
            new = [f"{self.name} {self._number + offset}" for offset in range(self._random.randint(1, 4))]
            self._number += len(new)
            keys = [*new, *known]
            ledger.keys |= dict.fromkeys(new)
        receipts = self.store.add([one_of(key) for key in keys])
        with ledger.lock:
            for key, receipt in zip(keys, receipts, strict=True):
                ledger.receipt(key, receipt)

    def claim(self) -> None:
        """Claim jobs for up to six workers, sometimes with the exits of one region only."""
        workers = [f"w{number}" for number in range(self._random.randint(1, 6))]
        exits = self._random.choice([None, None, ["kr"]])
        found = self.store.claim(self.host, workers, exits)
        self._ledger.claims(self.name, found.jobs)

    def finish(self) -> None:
        """Report ends of some held runs, and sometimes repeat an end that was reported earlier."""
        ledger = self._ledger
        with ledger.lock:
            mine = sorted(ledger.held[self.name])
            runs = self._random.sample(mine, min(self._random.randint(1, 4), len(mine)))
            if ledger.told and self._random.random() < 0.2:
                runs.append(self._random.choice([*ledger.told]))
        ends = []
        for run in dict.fromkeys(runs):
            # A worker that got no answer repeats the same report: its result is on disk.
            outcome = ledger.told[run][0] if run in ledger.told else random.Random(str(run)).choice(TOLD)
            ends.append(Finished(job=run[0], fence=run[1], outcome=outcome))
        for one, taken in zip(ends, self.store.finish(ends), strict=True):
            ledger.ends(self.name, one, taken)

    def beat(self) -> None:
        """Renew the lease."""
        self.store.beat(self.host, LEASE_SECONDS)

    def recover(self) -> None:
        """Recover jobs of dead hosts."""
        self.store.recover()

    def cancel(self) -> None:
        """Cancel some job."""
        ledger = self._ledger
        with ledger.lock:
            names = self._random.sample([*ledger.keys], min(1, len(ledger.keys)))
            chosen = [job for job in map(ledger.keys.get, names) if job is not None]
            ledger.cancelled |= set(chosen)
        found = self.store.cancel(chosen)
        assert not chosen or found[chosen[0]] in Cancelled

    def retry(self) -> None:
        """Retry jobs that were set aside."""
        self.store.retry([job for (job,) in self._queue.rows("SELECT id FROM jobs WHERE state = 'aside' LIMIT 3")])

    def site(self) -> None:
        """Pause or resume a site, or change its pace."""
        name = self._random.choice([*PACES])
        if self._random.random() < 0.5:
            self.store.pause(name, paused=self._random.random() < 0.3)
        else:
            self.store.pace(name, PACES[name])


def agree(queue: Queue, ledger: Ledger) -> None:
    """Assert that the tables agree with one another and with the LEDGER; no hub may be working meanwhile."""
    jobs = {row.id: row for row in queue.rows("SELECT * FROM jobs")}
    runs: dict[int, dict[int, Any]] = {}
    for row in queue.rows("SELECT * FROM runs"):
        runs.setdefault(row.job, {})[row.fence] = row
    for job, row in jobs.items():
        expected = row.fence - (row.state == "leased")
        assert sorted(runs.get(job, {})) == list(range(1, expected + 1)), f"job {row}: its runs are {runs.get(job)}"
        late = row.fence and row.until is not None and row.interval_seconds is None and row.due_at > row.until
        assert row.until is None or row.state != "aside", f"job {row} lies aside, and somebody waits for it"
        assert not (late and row.state == "ready"), f"job {row} is tried once more, and nobody waits for it any more"
    for job in runs.keys() - jobs.keys():
        fences = sorted(runs[job])
        last, key = runs[job][fences[-1]].outcome, runs[job][fences[-1]].key
        assert fences == list(range(1, len(fences) + 1)), f"job {job} is gone, its runs are {fences}"
        final = last in ("good", "empty", "refused", "absent", "cancelled")
        final |= bool(key) and one_of(key).patience_seconds is not None
        assert final or job in ledger.cancelled, f"job {job} is gone, its last run was {last}"
    for key, told in ledger.keys.items():
        assert told is None or told in jobs or told in runs, f"{key}, job {told}, was lost"
    for run, (outcome, taken) in ledger.told.items():
        row = runs.get(run[0], {}).get(run[1])
        assert row is not None and (row.outcome == outcome) == (taken is not Taken.STALE), f"{run}: {outcome} {taken}"
    for run in ledger.claimed:
        there = run[1] in runs.get(run[0], {}) or (run[0] in jobs and jobs[run[0]].fence >= run[1])
        assert there, f"the claimed {run} was lost"
    _sites_agree(queue, list(jobs.values()))
    _rollups_agree(queue, [row for of_job in runs.values() for row in of_job.values()])


def _rollups_agree(queue: Queue, runs: list[Any]) -> None:
    wanted: Counter[tuple[Any, ...]] = Counter()
    for run in runs:
        wanted.update((span, run.ended_at // span * span, run.site, run.outcome) for span in SPANS.values())
    found = {(row[0], float(row[1]), *row[2:4]): row[4] for row in queue.rows("SELECT * FROM rollups")}
    assert found == dict(wanted)


def _sites_agree(queue: Queue, jobs: list[Any]) -> None:
    running = Counter(row.site for row in jobs if row.state == "leased")
    for site in queue.rows("SELECT * FROM sites"):
        assert site.running == running[site.name], f"{site}: {running[site.name]} of its jobs run"
        due = [row.due_at for row in jobs if row.site == site.name and row.state == "ready"]
        asleep = site.paused or site.running >= site.most or not due
        wanted = None if asleep else max(site.polite_at, min(due))
        assert site.wake_at == wanted, f"{site}: its alarm should be {wanted}"


def polite(queue: Queue) -> None:
    """Assert that no run of a site began before its interval was over, and that never too many ran at once."""
    began: dict[str, list[float]] = {}
    changes: dict[str, list[tuple[float, int]]] = {}
    query = "SELECT site, began_at, {} AS ended_at FROM {} WHERE began_at IS NOT NULL"
    for row in [*queue.rows(query.format("ended_at", "runs")), *queue.rows(query.format("9e12", "jobs"))]:
        began.setdefault(row.site, []).append(row.began_at)
        changes.setdefault(row.site, []).extend([(row.began_at, 1), (row.ended_at, -1)])
    for site in queue.rows("SELECT name, interval_seconds, most FROM sites"):
        times = sorted(began.get(site.name, []))
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert min(gaps, default=9.0) >= site.interval_seconds - 1e-6, f"{site}: {min(gaps)} s"
        # At equal times the end (-1) sorts before the begin (+1): it made room for that.
        now = most = 0
        for _, change in sorted(changes.get(site.name, [])):
            now += change
            most = max(most, now)
        assert most <= site.most, f"{site}: {most} at once"
