"""Handing in, and going on after an earlier life."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fleet.result import Result
from fleet.settings.hub import KeepSettings
from fleet.spool import RESULT_BYTES, newest, read_spool
from worker.spool import KEPT, Spool


def result(run: str, loop: int) -> Result:
    """A result with the least there can be."""
    now = datetime.now(timezone.utc)
    return Result(run=run, worker="w1101", loop=loop, ok=True, started=now, finished=now, attempts=1, stages_ms={})


def test_hand_in_and_go_on(tmp_path: Path) -> None:
    """The next life knows the last loop of its run, other runs notwithstanding."""
    spool = Spool(tmp_path / "spool")
    assert spool.last_loop("a") == 0
    for run, loop in (("a", 1), ("a", 2), ("b", 7)):
        spool.put(result(run, loop))
    assert (Spool(spool.folder).last_loop("a"), Spool(spool.folder).last_loop("b")) == (2, 7)
    assert [found.loop for found in read_spool(spool.folder, "a")] == [1, 2]


def test_half_a_write_is_swept_away(tmp_path: Path) -> None:
    """What an earlier life left in the middle of a write is no result and does not stay."""
    spool = Spool(tmp_path)
    spool.put_screenshot("a-000001.png", b"\x89PNG")
    (tmp_path / ".a-000001.json.new").write_bytes(b'{"run": "a"')
    assert Spool(tmp_path).last_loop("a") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a-000001.png"]


def test_what_holds_no_result_is_set_aside(tmp_path: Path) -> None:
    """What lies on top at a start, and whatever claims to be the last loop, gets another name; the worker goes on."""
    spool = Spool(tmp_path / "spool")
    for loop in (1, 2):
        spool.put(result("a", loop))
    for name in ("a-000003.json", "a-999999999999.json", "b-000001.json"):
        (spool.folder / name).write_text("{")
    (spool.folder / "a-000004.json").mkdir()
    (spool.folder / "a-000004.json.bad").touch()
    again = Spool(spool.folder)
    assert again.last_loop("a") == 2
    bad = {
        "a-000003.json.bad",
        "a-999999999999.json.bad",
        "a-000004.json.bad",
        "a-000004.json.1.bad",
        "b-000001.json.bad",
    }
    assert {path.name for path in spool.folder.glob("*.bad")} == bad
    assert newest(spool.folder).set_aside == 5


@pytest.mark.parametrize(
    "swap", [lambda path: path.symlink_to("/etc"), Path.touch, os.mkfifo], ids=["link", "file", "pipe"]
)
def test_a_swapped_spool_is_set_aside(tmp_path: Path, swap: Callable[[Path], object]) -> None:
    """The worker has a spool of its own again."""
    swap(tmp_path / "spool")
    Spool(tmp_path / "spool").put(result("a", 1))
    assert Spool(tmp_path / "spool").last_loop("a") == 1
    assert (tmp_path / "spool.bad").lstat()


def test_no_result_is_larger_than_its_readers_read(tmp_path: Path) -> None:
    """Without its answer, and it says so, where an answer and everything else is too much."""
    large = result("a", 1).model_copy(update={"answer": {"x": "x" * RESULT_BYTES}})
    Spool(tmp_path / "spool").put(large)
    (read,) = read_spool(tmp_path / "spool")
    assert (read.answer, read.answer_cut) == ({}, True)


def test_the_group_of_the_home_reads_what_is_handed_in(tmp_path: Path) -> None:
    """Whatever the umask; a spool of an earlier release, for its owner alone, becomes one of these with all it has."""
    home, group = tmp_path / "w1101", os.getegid()
    home.mkdir()
    os.chown(home, -1, group)
    home.chmod(0o2750)
    (home / "spool").mkdir()
    (home / "spool").chmod(0o700)
    (home / "spool/a-000001.png").write_bytes(b"old")
    before = os.umask(0o077)
    try:
        for _ in range(2):
            spool = Spool(home / "spool")
            spool.put_screenshot("a-000002.png", b"\x89PNG")
            spool.put(result("a", 2))
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o2750
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.folder.iterdir()}
    assert modes["a-000002.json"] == modes["a-000002.png"] == 0o640
    assert modes.keys() == {"a-000001.png", "a-000002.json", "a-000002.png"}


def test_of_the_jobs_that_the_hub_has_some_stay(tmp_path: Path) -> None:
    """The youngest, over all lives; so do the last of a life, of which nobody may know, and what is of no job."""
    for life in range(2):
        spool = Spool(tmp_path)
        for loop in range(KEPT):
            one = result(f"job-{life}", loop + 1)
            spool.put(one)
            spool.told_of(one.file_stem)
    spool.put(result("job-9", 1))
    spool.put(result("always", 1))
    names = {path.name for path in tmp_path.iterdir()}
    others = {"job-0-000050.json", "job-9-000001.json", "always-000001.json"}
    assert others | {"job-1-000050.json"} <= names and len(names) == KEPT + len(others)


def test_a_picture_goes_when_it_is_not_wanted_and_nothing_else_does(tmp_path: Path) -> None:
    """Whatever the hub names: a picture of a job, and no path."""
    spool = Spool(tmp_path / "spool")
    for name in ("job-1-000001.png", "job-1-000001_01.webp", "always-000001.png", "job-1-000001.json"):
        (spool.folder / name).write_bytes(b"x")
    names = ["job-1-000001.png", "job-1-000001_01.webp", "job-2-000001.png"]
    others = ["always-000001.png", "../spool/job-1-000001.png"]
    assert [spool.forget(name) for name in (*names, *others)] == [True, True, True, False, False]
    assert sorted(path.name for path in spool.folder.iterdir()) == ["always-000001.png", "job-1-000001.json"]


def test_old_results_of_the_task_go_and_so_do_the_oldest_of_too_many(tmp_path: Path) -> None:
    """Pictures first, by age and by size, then results; the newest stays, and so does all that is not `[task]`'s."""
    keep = KeepSettings(pictures_days=2, pictures_mebibytes=1, answers_days=9)
    spool = Spool(tmp_path / "spool", keep, workers=2)
    (spool.folder / "a-000001_01.png").write_bytes(b"x")
    os.utime(spool.folder / "a-000001_01.png", (0, 0))
    days = {"a-000001": 10, "a-000002": 3, "a-000003": 1.5, "a-000004": 1, "job-1-000001": 99, "note": 99}
    for stem, age in days.items():
        for kind, size in (("png", 300 << 10), ("json", 10)):
            path = spool.folder / f"{stem}.{kind}"
            path.write_bytes(b"x" * size)
            os.utime(path, (time.time() - age * 86_400,) * 2)
    spool.put(result("a", 5))
    left = sorted(path.name for path in spool.folder.iterdir())
    others = ["job-1-000001.json", "job-1-000001.png", "note.json", "note.png"]
    assert left == ["a-000002.json", "a-000003.json", "a-000004.json", "a-000004.png", "a-000005.json", *others]
    (spool.folder / "a-000002.json").touch()
    spool.put(result("a", 6))
    assert (spool.folder / "a-000005.json").exists(), "the next look is an hour away"


def test_without_a_ladder_nothing_goes(tmp_path: Path) -> None:
    """The control: the same file, and nobody to let go of it."""
    spool = Spool(tmp_path / "spool")
    old = spool.folder / "a-000001.json"
    old.touch()
    os.utime(old, (0, 0))
    spool.put(result("a", 5))
    assert old.exists()
