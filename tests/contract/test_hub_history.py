"""Random histories of the queue, on both engines: claims, ends, beats, recoveries, orders, and a death anywhere.

`--steps 200000` looks longer, `--seed N` elsewhere.
"""

from __future__ import annotations

import threading

import pytest

from hub.queue import endings, politeness, rests
from hub.queue.values import Job
from tests.history import PACES, Ledger, MortalHub, agree, polite
from tests.postgresql import Server
from tests.queues import Queue

HUBS = ("h1", "h2", "h3")
LOOK_STEPS = 50


@pytest.fixture
def steps(request: pytest.FixtureRequest) -> int:
    """The number of steps."""
    return int(request.config.getoption("--steps"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of the random history."""
    return int(request.config.getoption("--seed"))


def begin(queue: Queue, seed: int, *, careless: bool = False) -> tuple[Ledger, list[MortalHub]]:
    """Three hubs, and the sites that they will work on."""
    own = queue.hub("first")
    own.store.add([Job(site=name, task="visit") for name in PACES])
    for name, pace in PACES.items():
        own.store.pace(name, pace)
    own.store.retire(own.host)
    ledger = Ledger()
    return ledger, [MortalHub(queue, ledger, name, seed, careless=careless) for name in HUBS]


def history(queue: Queue, steps: int, seed: int, *, careless: bool = False) -> Ledger:
    """Do STEPS random steps by three hubs in turn, and assert that the tables agree with what users were told."""
    ledger, hubs = begin(queue, seed, careless=careless)
    for number in range(steps):
        hubs[number % len(hubs)].step()
        if number % max(LOOK_STEPS, steps // 100) == 0:
            agree(queue, ledger)
    drain(queue, ledger, hubs)
    return ledger


def drain(queue: Queue, ledger: Ledger, hubs: list[MortalHub]) -> None:
    """Without further deaths and new jobs every job ends by itself: none waits for a person."""
    repeating = [job for (job,) in queue.rows("SELECT id FROM jobs WHERE interval_seconds IS NOT NULL")]
    ledger.cancelled |= set(repeating)
    hubs[0].store.cancel(repeating)
    for name in PACES:
        hubs[0].store.pause(name, paused=False)
    for hub in hubs:
        hub.begin()
    for hub in hubs:
        hub.recover()
    agree(queue, ledger)
    while True:
        for hub in hubs:
            hub.beat()
            while ledger.held[hub.name]:
                hub.finish()
        if not queue.one("SELECT count(*) FROM jobs WHERE state <> 'aside'"):
            break
        looks = [hub.store.claim(hub.host, ["w1", "w2", "w3", "w4"]) for hub in hubs]
        for hub, found in zip(hubs, looks, strict=True):
            ledger.claims(hub.name, found.jobs)
        if not any(found.jobs for found in looks):
            assert looks[0].next_seconds is not None, "jobs are there, and no alarm is set"
            queue.ahead(looks[0].next_seconds)
    agree(queue, ledger)
    polite(queue)


def test_no_history_loses_or_doubles_a_job(queue: Queue, steps: int, seed: int) -> None:
    """With deaths between any two statements: what was told is true, each lease ends once, each alarm is set."""
    ledger = history(queue, steps, seed)
    ends = dict(queue.rows("SELECT outcome, count(*) FROM runs GROUP BY outcome"))
    assert ends.keys() >= {"good", "failed", "lost", "cancelled"}
    print(f"{queue.database.name}: {steps} steps, {len(ledger.keys)} jobs, {len(ledger.claimed)} runs told, {ends}")


@pytest.mark.parametrize("addresses", ["postgresql"], indirect=True, scope="session")
def test_hubs_at_the_same_time_lose_and_double_nothing(queue: Queue, postgresql: Server, steps: int, seed: int) -> None:
    """Three hubs in threads, with conflicting transactions and deaths: never a deadlock."""
    before = postgresql.deadlocks()
    ledger, hubs = begin(queue, seed)
    faults: list[BaseException] = []

    def work(hub: MortalHub) -> None:
        try:
            for _ in range(steps // len(hubs)):
                hub.step()
        except BaseException as error:  # noqa: BLE001 - it is the test's, in another thread
            faults.append(error)

    threads = [threading.Thread(target=work, args=(hub,)) for hub in hubs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    assert postgresql.deadlocks() == before
    drain(queue, ledger, hubs)


def test_a_planted_end_in_two_halves_is_found(queue: Queue, seed: int) -> None:
    """The control: if each statement is its own transaction, a death in between is detected."""
    with pytest.raises(AssertionError):
        history(queue, 2000, seed, careless=True)


def test_a_planted_stale_end_is_found(queue: Queue, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: if a former holder of a job may end it, under any fence, that is detected."""
    monkeypatch.setattr(endings, "in_effect", lambda row, _: row.state == "leased")
    with pytest.raises(Exception, match=r"runs|was claimed twice|then|told"):
        history(queue, 2000, seed)


def test_a_planted_forgotten_alarm_is_found(queue: Queue, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: if a new job does not wake its site, that is detected at the next check."""
    monkeypatch.setattr(politeness, "earlier", lambda site, _: site)
    with pytest.raises(AssertionError, match="its alarm should be"):
        history(queue, 2000, seed)


def test_a_planted_forgotten_deadline_is_found(queue: Queue, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: if a job is retried although its caller no longer waits, that is detected."""
    monkeypatch.setattr(rests, "_in_time", lambda _row, _due_at: True)
    with pytest.raises(AssertionError, match="nobody waits for it any more"):
        history(queue, 2000, seed)
