"""`hub serve`, with workers that are this process under their UIDs: who gets which job, and how its run ends."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import NotAllowed
from fleet.model import Paths
from fleet.result import of_job
from fleet.sockets.hub_api import Take, Taken, Work
from hub import hosting, serve
from hub.hosting import LEASE_SECONDS
from hub.queue import reading
from hub.queue.upgrade import upgrade
from hub.spooled import PICTURE_BYTES
from tests.hubs import FLEET, Scene, client, finish, running, take
from tests.waiting import until

ONE, TWO, THREE, *_ = FLEET.members
STRANGER = 4321
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scene(root: None) -> Iterator[Scene]:
    """A hub that serves."""
    with running() as made:
        yield made


def test_an_idle_worker_has_a_new_job_at_once(scene: Scene) -> None:
    """A waiting worker is woken when a job is added; its result is in the history with its picture's checksum."""
    found: list[Work] = []
    with client(scene, ONE.uid) as one:
        waiting = threading.Thread(target=lambda: found.append(take(one, 60)))
        waiting.start()
        (job,) = scene.add("woken")
        began = time.monotonic()
        waiting.join(20)
        print(f"the worker had it {1000 * (time.monotonic() - began):.0f} ms after the ring")
        (work,) = found
        assert work.job == job
        scene.hand_in(ONE, work)
        finish(one, work)
        finish(one, work)  # whose answer was lost
    (run,) = reading.runs_of(scene.database, job)
    assert (run["outcome"], run["answer"], run["worker"]) == ("good", {"price": 3}, ONE.name)
    assert isinstance(run["details"], dict) and run["details"]["stages_ms"] == {"load": 7.0}
    (picture,) = reading.pictures_of(scene.database, job, 1)
    assert picture["sha256"] == "0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543"


def test_who_does_not_want_to_wait_is_told_that_there_is_nothing(scene: Scene) -> None:
    """A worker with [task] beside its jobs goes on at once."""
    with client(scene, TWO.uid) as two:
        assert two.ask(Take(seconds=0), Taken).work is None


def test_a_worker_ends_its_own_jobs_alone(scene: Scene) -> None:
    """A neighbour's job stays the neighbour's; root and strangers have none (control: its own worker ends it)."""
    (job,) = scene.add("own")
    with client(scene, ONE.uid) as one, client(scene, TWO.uid) as two, client(scene, 0) as root:
        work = take(one)
        scene.hand_in(TWO, work)
        for other in (two, root):
            with pytest.raises(NotAllowed):
                finish(other, work)
        with pytest.raises(NotAllowed):
            root.ask(Take(seconds=0), Taken)
        assert scene.runs(job) == []
        scene.hand_in(ONE, work)
        finish(one, work)
        assert scene.runs(job) == [("good", ONE.name)]
    with client(scene, STRANGER) as stranger, pytest.raises(NotAllowed):
        stranger.ask(Take(seconds=0), Taken)


def test_who_hangs_up_has_lost_its_job_and_who_handed_in_has_not(scene: Scene) -> None:
    """A job of the first goes to another worker at once; the second one's stored result counts, reported or not."""
    (lost,) = scene.add("lost")
    with client(scene, ONE.uid) as one:
        take(one)
    with client(scene, TWO.uid) as two:
        work = take(two)
        assert (work.job, work.fence) == (lost, 2)
        scene.hand_in(TWO, work)
    until("it is ended", lambda: len(scene.runs(lost)) == 2)
    assert scene.runs(lost) == [("lost", ONE.name), ("good", TWO.name)]


def test_a_worker_that_asks_again_has_forgotten_its_job(scene: Scene) -> None:
    """A new process of the worker does not know the old one's job: it gets the job's next run."""
    (job,) = scene.add("forgotten")
    with client(scene, ONE.uid) as one:
        assert take(one).fence == 1
        again = take(one)
        assert (again.job, again.fence) == (job, 2)
        scene.hand_in(ONE, again)
        finish(one, again)
    assert [outcome for outcome, _ in scene.runs(job)] == ["lost", "good"]


def test_a_worker_that_loses_one_job_after_another_rests_ever_longer(scene: Scene) -> None:
    """It does not use up the attempts of the whole queue; its neighbour keeps working."""
    jobs = scene.add(*(f"burnt-{number}" for number in range(6)), attempts=1)

    def takes_and_hangs_up() -> bool:
        with client(scene, TWO.uid) as two:
            two.ask(Take(seconds=1), Taken)
        return any(scene.runs(job) for job in jobs)

    began = time.monotonic()
    until("it loses one", takes_and_hangs_up, 30)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        takes_and_hangs_up()
    took = time.monotonic() - began

    def does_one() -> bool:
        with client(scene, ONE.uid) as one:
            if work := one.ask(Take(seconds=1), Taken).work:
                scene.hand_in(ONE, work)
                finish(one, work)
        return all(scene.runs(job) for job in jobs)

    until("all have ended", does_one, 60)  # one of them may be lost now: its worker had it when it hung up
    lost = [job for job in jobs if scene.runs(job)[0][0] == "lost"]
    assert lost and 2 ** (len(lost) - 1) - 1 <= took + 1, "rests of 1, 2, 4 and more seconds"
    assert len(lost) < len(jobs)


HOSTILE: dict[str, Callable[[Scene, Work], None]] = {
    "nothing": lambda scene, work: None,
    "garbage": lambda scene, work: scene.write(ONE, f"job-{work.job}-000001.json", b"{"),
    "another's": lambda scene, work: scene.hand_in(ONE, work, worker=TWO.name),
    "another queue's": lambda scene, work: scene.hand_in(ONE, work, claim="1.1.7"),
    "a link": lambda scene, work: (scene.paths.spool(ONE) / f"job-{work.job}-000001.json").symlink_to("/etc/shadow"),
    "a pipe": lambda scene, work: os.mkfifo(scene.paths.spool(ONE) / f"job-{work.job}-000001.json"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_result_that_is_none_fails_its_run(scene: Scene, kind: str) -> None:
    """The reason is kept, its job is set aside, and the hub and its other workers go on."""
    (job,) = scene.add(f"hostile {kind}", attempts=1)
    with client(scene, ONE.uid) as one:
        work = take(one)
        HOSTILE[kind](scene, work)
        finish(one, work)
    (run,) = reading.runs_of(scene.database, job)
    assert run["outcome"] == "failed" and "result" in str(run["error"])
    assert (reading.job(scene.database, job) or {})["state"] == "aside"


def test_hostile_words_are_text(scene: Scene) -> None:
    """An exit, a reason and a picture's name from a worker change no terminal and name no other file of the host."""
    (job,) = scene.add("words")
    with client(scene, ONE.uid) as one:
        work = take(one)
        words: dict[str, Any] = {
            "ok": False,
            "outcome": "refused",
            "reason": "\x1b[31mno\0",
            "exit_server": "\x1b]0;x",
            "answer": {},
        }
        scene.hand_in(ONE, work, **words, screenshot="..")
        finish(one, work)
    (run,) = reading.runs_of(scene.database, job)
    assert run["outcome"] == "refused"
    assert not {"\x1b", "\0"} & {*json.dumps([run["error"], run["exit"]], ensure_ascii=False)}
    assert "picture" in str(run["error"])


def test_a_hub_without_descriptors_calls_no_result_failed(scene: Scene) -> None:
    """The file is not to blame: it is read once the hub has some again, and the worker waits."""
    (job,) = scene.add("late")
    assert scene.process
    with client(scene, ONE.uid) as one:
        work = take(one)
        scene.hand_in(ONE, work)
        usual = resource.prlimit(scene.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(scene.process.pid, resource.RLIMIT_NOFILE, (0, usual[1]))
        ending = threading.Thread(target=finish, args=(one, work))
        ending.start()
        ending.join(1)
        assert ending.is_alive()
        resource.prlimit(scene.process.pid, resource.RLIMIT_NOFILE, usual)
        ending.join(20)
        assert not ending.is_alive()
    assert scene.runs(job) == [("good", ONE.name)]


def test_pictures_of_several_pages_are_kept_in_their_order(scene: Scene) -> None:
    """That of the run first; a name that a worker gives twice is one, and pictures have one bound together."""
    (job,) = scene.add("pages")
    with client(scene, ONE.uid) as one:
        work = take(one)
        stem = "{}-{:06d}".format(*of_job(work.job, work.fence))
        names = [f"{stem}_{number:02}.png" for number in range(1, 12)]
        for name in names:
            scene.write(ONE, name, b"x" * 10)
        os.truncate(scene.paths.spool(ONE) / names[1], PICTURE_BYTES)
        scene.hand_in(ONE, work, more_screenshots=[*names, f"{stem}.png", names[0]])
        finish(one, work)
    (run,) = reading.runs_of(scene.database, job)
    kept = [each["name"] for each in reading.pictures_of(scene.database, job, work.fence)]
    assert kept == [f"{stem}.png", names[0], *names[2:]] and "picture cannot be read" in str(run["error"])


def test_a_limited_run_waits_and_costs_no_attempt(scene: Scene) -> None:
    """The site said when: until then it gets no request, whatever other jobs it has."""
    (job,) = scene.add("limited", attempts=1)
    with client(scene, ONE.uid) as one:
        work = take(one)
        scene.hand_in(ONE, work, ok=False, outcome="limited", retry_after_seconds=600)
        finish(one, work)
        found = reading.job(scene.database, job)
        assert found and (found["state"], found["attempts_left"]) == ("ready", 1)
        scene.add("beside")
        assert one.ask(Take(seconds=0), Taken).work is None
    (site,) = scene.store.sites()
    assert site.polite_at > time.time() + 500
    scene.database.run(lambda db: db.exec_driver_sql("UPDATE sites SET polite_at = 0, wake_at = 0, slowed = 1"))
    scene.store.cancel([job])
    scene.rings()
    with client(scene, ONE.uid) as one:
        work = take(one)
        scene.hand_in(ONE, work)
        finish(one, work)


def test_a_killed_hub_knows_afterwards_what_its_workers_have(scene: Scene) -> None:
    """A worker keeps its job over the hub's death, and its end is taken once; a run that no worker has is lost."""
    kept, left = scene.add("kept", "left")
    with client(scene, ONE.uid) as one, client(scene, TWO.uid) as two:
        by_job = {}
        for worker, connection in ((ONE, one), (TWO, two)):
            work = take(connection)
            by_job[work.job] = (worker, work)
        scene.kill()
    scene.start()
    worker, work = by_job[kept]
    scene.hand_in(worker, work)
    with client(scene, worker.uid) as again:
        finish(again, work)
        finish(again, work)
    assert scene.runs(kept) == [("good", worker.name)]
    other, _ = by_job[left]
    with client(scene, other.uid) as again:
        work = take(again)
        assert (work.job, work.fence) == (left, 2)
        scene.hand_in(other, work)
        finish(again, work)
    assert [outcome for outcome, _ in scene.runs(left)] == ["lost", "good"]


def test_at_rest_the_database_is_hardly_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a worker that waits: at most three statements a second, transactions' own words counted (SQLite)."""
    paths = Paths(root=tmp_path)
    for path in (paths.hub_socket, paths.hub_database):
        path.parent.mkdir(parents=True)
    monkeypatch.setattr(hosting, "LEASE_SECONDS", 1.2)  # a beat every 0.4 s, and with it all that comes again and again
    statements: list[str] = []

    async def rest() -> int:
        hub = serve.Hub(FLEET, paths)
        upgrade(hub.database)
        own = hub.database.engine.connect().connection.driver_connection
        assert own
        own.set_trace_callback(statements.append)
        stop = asyncio.Event()
        running = asyncio.ensure_future(hub.run(stop))
        hub.service.seats[ONE.uid].waiting = asyncio.get_running_loop().create_future()
        await asyncio.sleep(1.0)
        del statements[:]
        await asyncio.sleep(2.4)
        count = len(statements)
        stop.set()
        await running
        hub.close()
        return count

    each_beat = asyncio.run(rest()) / 6
    print(f"{each_beat:.1f} statements a beat")
    assert 1 <= each_beat <= 3 * LEASE_SECONDS / 3


def test_a_job_cuts_the_rest_between_two_loops_short(scene: Scene) -> None:
    """A worker with both does [task], rests for ten minutes, does a job at once, and goes on resting."""
    argv = [sys.executable, str(CHECKOUT / "tests/programs/looping.py"), THREE.name]
    log = (scene.paths.root / "looping.log").open("w")
    scene.paths.netctl_socket.parent.mkdir(exist_ok=True)
    os.chown(scene.paths.netctl_socket.parent, THREE.uid, THREE.uid)
    worker = subprocess.Popen(argv, env={**scene.installation.environment}, stdout=log, stderr=log)
    try:
        spool = scene.paths.spool(THREE)
        until("a loop of [task]", lambda: [*spool.glob("always-000001.json")], 30, lambda: log_of(scene))
        (job,) = scene.add("between", attempts=1)
        until("the job's end", lambda: scene.runs(job), 30, lambda: log_of(scene))
        assert scene.runs(job) == [("failed", THREE.name)], "it has no tunnel here"
        assert [path.name for path in spool.glob("always-*")] == ["always-000001.json"]
    finally:
        worker.kill()
        worker.wait(10)
        log.close()


def log_of(scene: Scene) -> str:
    """The end of the worker's log."""
    return (scene.paths.root / "looping.log").read_text()[-2000:]
