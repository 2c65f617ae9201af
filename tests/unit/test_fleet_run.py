"""What `fleet run` reads in the spools, and its report."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fleet import log
from fleet.errors import FleetError
from fleet.machine.files import write_durably
from fleet.model import Paths, Worker
from fleet.operate import progress
from fleet.operate.run import Board, _report
from fleet.result import Failure, Result, RunOrder
from fleet.spool import read_result
from fleet.terminal import console

ORDER = RunOrder(run="run-1", loops=2)
MEMBERS = (Worker(uid=1101), Worker(uid=1102))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=tmp_path)
    for worker in MEMBERS:
        made.spool(worker).mkdir(parents=True)
    return made


def hand_in(
    paths: Paths,
    worker: Worker,
    loop: int,
    *,
    ok: bool = True,
    run: str = "run-1",
    name: str = "",
    rest: float | None = None,
) -> None:
    """Write one result into the spool of WORKER."""
    now = datetime.now(timezone.utc)
    failures = () if ok else (Failure(name="WrongExit", message="no", stage="proof"),)
    result = Result(
        run=run,
        worker=name or worker.name,
        loop=loop,
        ok=ok,
        started=now,
        finished=now,
        attempts=1,
        failures=failures,
        stages_ms={"tunnel": 1.0},
        requests=10,
        retry_after_seconds=rest,
    )
    write_durably(paths.spool(worker) / f"{result.file_stem}.json", result.model_dump_json().encode())


def test_each_result_is_seen_once(paths: Paths) -> None:
    """Each read gives new results; the board is complete with the last loop of the last worker."""
    board = Board(ORDER, MEMBERS, paths)
    hand_in(paths, MEMBERS[0], 1)
    assert [(item.worker, item.loop) for item in board.look()] == [("w1101", 1)]
    assert board.look() == []
    for worker, loop in ((MEMBERS[0], 2), (MEMBERS[1], 1)):
        hand_in(paths, worker, loop)
    assert len(board.look()) == 2 and not board.complete
    hand_in(paths, MEMBERS[1], 2)
    board.look()
    assert board.complete


def test_other_runs_and_other_names_do_not_count(paths: Paths) -> None:
    """Results of an earlier run, of another worker or of a loop beyond the order do not count."""
    hand_in(paths, MEMBERS[0], 1, run="run-0")
    hand_in(paths, MEMBERS[0], 2, name="w1102")
    hand_in(paths, MEMBERS[0], 3)
    assert Board(ORDER, MEMBERS, paths).look() == []


def test_a_rest_that_a_site_asked_for_is_no_hang(paths: Paths) -> None:
    """The run waits longer for a loop by the rest that a site asked for, also by one from an earlier run."""
    assert Board(ORDER, MEMBERS, paths).rest_seconds == 0
    hand_in(paths, MEMBERS[0], 1, run="run-0", rest=120)
    board = Board(ORDER, MEMBERS, paths)
    assert board.rest_seconds == 120
    hand_in(paths, MEMBERS[1], 1, rest=600)
    board.look()
    assert board.rest_seconds == 600


def test_report_is_good_only_when_all_is(paths: Paths) -> None:
    """Failed loops, missing loops and an early end each make the run not good."""
    board = Board(ORDER, MEMBERS, paths)
    for worker in MEMBERS:
        hand_in(paths, worker, 1)
    hand_in(paths, MEMBERS[0], 2)
    hand_in(paths, MEMBERS[1], 2, ok=False)
    board.look()
    report = _report(board, None, 1.0)
    assert (report.good, report.bad, report.missing, report.requests, report.ok) == (3, 1, 0, 40, False)
    board.results["w1102"].pop(2)
    assert (_report(board, None, 1.0).missing, _report(board, None, 1.0).ok) == (1, False)
    hand_in(paths, MEMBERS[1], 2)
    complete = Board(ORDER, MEMBERS, paths)
    complete.look()
    assert _report(complete, None, 1.0).ok
    assert not _report(complete, "w1101 ended", 1.0).ok


def test_spool_cannot_lead_root_elsewhere(paths: Paths, tmp_path: Path) -> None:
    """Links, pipes and nonsense in a worker's spool are refused without waiting and without following."""
    spool = paths.spool(MEMBERS[0])
    hand_in(paths, MEMBERS[1], 1)
    (spool / "run-1-000001.json").symlink_to(next(paths.spool(MEMBERS[1]).glob("*.json")))
    os.mkfifo(spool / "run-1-000002.json")
    (spool / "run-1-000003.json").write_text("{}")
    for number in (1, 2, 3):
        with pytest.raises(FleetError, match=f"run-1-00000{number}.json"):
            read_result(spool / f"run-1-00000{number}.json")


def test_a_file_that_holds_no_result_is_counted_and_named_once(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run continues; the log names the file once, the report counts it, and its loop is missing."""
    log.configure()
    board = Board(ORDER, MEMBERS, paths)
    (paths.spool(MEMBERS[0]) / "run-1-000001.json").mkdir()
    for worker, loop in ((MEMBERS[0], 2), (MEMBERS[1], 1), (MEMBERS[1], 2)):
        hand_in(paths, worker, loop)
    assert len(board.look()) == 3 and board.look() == []
    assert capsys.readouterr().err.count("run-1-000001.json") == 1
    report = _report(board, None, 1.0)
    assert (report.good, report.missing, report.unreadable, report.ok) == (3, 1, 1, False)
    assert "1 files that hold no result" in progress.summary(report)


def test_a_spool_full_of_nonsense_fills_no_terminal(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """All are counted; the log names the first of them."""
    log.configure()
    board = Board(ORDER, MEMBERS, paths)
    for number in range(1, 101):
        (paths.spool(MEMBERS[0]) / f"run-1-{number:06d}.json").touch()
    board.look()
    assert len(board.unreadable) == 100
    assert len(capsys.readouterr().err.splitlines()) == 20


def test_words_of_a_worker_are_shown_as_they_are(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup of rich and terminal control characters in a result are shown as text, and break no report."""
    words = Failure(name="[/red]", message="\x1b[2J[bold]x[/nothing]", stage="[load]")
    hand_in(paths, MEMBERS[0], 1)
    board = Board(ORDER, MEMBERS, paths)
    result = board.look()[0].model_copy(update={"failures": (words,), "exit_server": "[/]"})
    console.print_table("", progress.COLUMNS, [progress.row(result)])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "[/]" in shown and "[/red]" in shown
