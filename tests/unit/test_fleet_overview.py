"""The text of `fleet status`, from a value: the worst first, with its reason, in 60 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet.model import Paths
from fleet.operate import overview
from fleet.result import Failure, Result
from fleet.status import FleetStatus, WorkerStatus
from fleet.supervise import ProgramState

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
FAILURE = Failure(name="PageFailed", message="https://shop.example/: TIMEOUT", stage="load")
PATHS = Paths(root=Path("/"))


def result(*, ok: bool, seconds_ago: float, loop: int = 41) -> Result:
    """The result of a loop that ended SECONDS_AGO."""
    ended = NOW - timedelta(seconds=seconds_ago)
    return Result(
        run="up",
        worker="w1101",
        loop=loop,
        ok=ok,
        started=ended - timedelta(seconds=4),
        finished=ended,
        attempts=1,
        failures=() if ok else (FAILURE,),
        stages_ms={},
        screenshot=f"up-{loop:06d}.png",
    )


def process(state: str = "RUNNING") -> ProgramState:
    """A worker's process."""
    running = state == "RUNNING"
    return ProgramState(
        name="worker:w1101", state=state, pid=4242 * running, exit_code=78, up_seconds=60, message="Exited too quickly"
    )


GOOD = WorkerStatus(worker="w1101", process=process(), slot=None, last=result(ok=True, seconds_ago=12), good=20)
FAILED = result(ok=False, seconds_ago=65, loop=7)
FAILING = WorkerStatus(worker="w1102", process=process(), slot=None, last=FAILED, last_failed=FAILED, good=17, failed=3)
RECOVERED = GOOD.model_copy(update={"worker": "w1103", "last_failed": FAILED, "good": 19, "failed": 1})
DOWN = WorkerStatus(worker="w1104", process=process("FATAL"), slot=None, last=None)
NEW = WorkerStatus(worker="w1105", process=process(), slot=None, last=None)


def seen(*workers: WorkerStatus, pid: int | None = 1) -> FleetStatus:
    """The status of a fleet of WORKERS, whose netctl does not answer."""
    return FleetStatus(supervisor_pid=pid, programs=(), netctl=None, workers=workers)


def lines(*workers: WorkerStatus, pid: int | None = 1) -> list[str]:
    """The lines about WORKERS."""
    return [*overview.text(seen(*workers, pid=pid), PATHS, NOW, ["fleet.toml differs"])]


def test_the_summary_then_what_is_wrong_then_the_worst() -> None:
    """Counts come first, then marked problems, then a block for each worker, failing ones before working ones."""
    said = lines(GOOD, RECOVERED, NEW, FAILING, DOWN)
    assert said[0] == "5 workers: 2 good, 1 waiting, 1 FAILING, 1 DOWN"
    marked = [line for line in said if line.startswith("!")]
    assert said[1 : 1 + len(marked)] == marked and "netctl does not answer" in marked[0] and "differs" in marked[-1]
    heads = [line.split()[0] for line in said if line.startswith("w11")]
    assert heads == ["w1104", "w1102", "w1105", "w1101", "w1103"]


def test_a_failure_says_why_when_and_where_its_picture_is() -> None:
    """The last loop's reason, its age, the number of failures and the file; the reason stays while it applies."""
    said = "\n".join(lines(FAILING))
    assert "w1102  FAILING, up-000007 ended 65 s ago, took 4.0 s\n       17 of the last 20 loops good" in said
    assert "why: failed: load: PageFailed: https://shop.example/: TIMEOUT" in said
    assert "picture: /var/lib/fleet/workers/w1102/spool/up-000007.png" in said
    said = "\n".join(lines(RECOVERED))
    assert "w1103  good, up-000041 ended 12 s ago" in said and "up-000007 failed 65 s ago: failed: load: Page" in said


def test_an_attempt_that_failed_is_told_before_there_is_a_result() -> None:
    """A worker that waits for a route has no result for hours: its last error is shown, and it is not good."""
    why = "tunnel: NoWay: this host has no way to 203.0.113.11\n! netctl"
    said = lines(NEW.model_copy(update={"attempt_failed": why}), GOOD)
    assert said[0] == "2 workers: 1 good, 1 FAILING"
    assert r"       now: tunnel: NoWay: this host has no way to 203.0.113.11\x0a! netctl" in said
    assert said.index("w1105  FAILING, no result yet") < [one[:5] for one in said].index("w1101")


def test_what_a_worker_writes_begins_no_line() -> None:
    """A failure's, file's or run's name with a line break is shown, and cannot look like another line."""
    broken = FAILURE.model_copy(update={"name": "Odd\n! netctl", "stage": "load\nw1103  good"})
    odd = FAILED.model_copy(update={"failures": (broken,), "screenshot": "a\n! b.png"})
    said = lines(FAILING.model_copy(update={"last": odd, "last_failed": odd}))
    assert [line for line in said if line.startswith(("! b", "! netctl\\", "w1103"))] == []
    assert r"load\x0aw1103  good: Odd\x0a! netctl" in "\n".join(said)


def test_an_answer_of_the_site_is_told_as_one() -> None:
    """A loop that a site refused has no failure but a reason."""
    refused = FAILED.model_copy(update={"failures": (), "outcome": "refused", "reason": "status 403"})
    said = "\n".join(lines(FAILING.model_copy(update={"last": refused, "last_failed": refused})))
    assert "why: refused: status 403" in said


def test_a_worker_that_does_not_run_names_its_log() -> None:
    """With supervisord's own message, if it has one."""
    assert "process FATAL: Exited too quickly; log: /var/log/fleet/w1104.log" in "\n".join(lines(DOWN))
    starts = DOWN.model_copy(update={"process": replace(process("STARTING"), message="")})
    assert "process STARTING; log: /var/log/fleet/w1104.log" in "\n".join(lines(starts))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s ago"), (65, "65 s ago"), (600, "10 min ago"), (10_000, "3 h ago"), (400_000, "5 days ago")],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    """In the largest useful unit; 0 if the clock was set back."""
    assert overview.ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_lines_are_at_most_sixty_columns() -> None:
    """All lines except paths and foreign texts, such as reasons."""
    own = [line for line in lines(GOOD, RECOVERED, NEW, FAILING, DOWN) if "/" not in line]
    assert max(map(len, own)) <= 60


@pytest.mark.parametrize(
    ("workers", "pid", "expected"),
    [((GOOD, DOWN), 1, True), ((NEW,), 1, True), ((FAILING, DOWN), 1, False), ((GOOD,), None, False), ((), 1, False)],
)
def test_nothing_works(workers: tuple[WorkerStatus, ...], pid: int | None, expected: bool) -> None:
    """Nothing works without supervisord or netctl, or if every worker is down or fails."""
    with_netctl = seen(*workers, pid=pid).model_copy(update={"netctl": object()})
    assert overview.works(with_netctl) is expected
    assert not overview.works(seen(*workers, pid=pid))
