"""What a reader makes of a spool in which anything may lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fleet.machine.foreign import Folder
from fleet.result import VERSION, Losses, Result
from fleet.spool import ANSWER_BYTES, RESULT_BYTES, Newest, Reader, handed_in, newest, read_spool

NAME = "run-1-000007.json"
NOTHING = Newest(recent=(), unreadable=(), set_aside=0)
OLD = """
{"run": "run-1", "worker": "w1101", "loop": 7, "ok": true, "started": "2026-11-26T01:00:00Z",
 "finished": "2026-11-26T01:00:09Z", "attempts": 1, "failures": [], "exit_server": "vpn.example",
 "exit_address": "203.0.113.11", "seen_address": "203.0.113.11", "lease": "1", "stages_ms": {"tunnel": 20.5},
 "handshake_ms": 3.5, "rotate_ms": 15.5, "pages": 2, "requests": 82, "network_changed": 1, "other_losses": 0,
 "screenshot": "run-1-000007.png", "answer": {"count": 3}}
"""
"""A result as it was written before results had a version."""


def but(**changes: Any) -> str:
    """OLD with other fields."""
    return json.dumps({**json.loads(OLD), **changes})


def write(path: Path, text: str) -> None:
    """An ordinary file."""
    path.write_text(text, encoding="utf-8")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: write(path, ""),
    "cut": lambda path: write(path, OLD[:200]),
    "over the bound": lambda path: write(path, f"{OLD}{' ' * RESULT_BYTES}"),
    "without end": lambda path: path.symlink_to("/dev/zero"),
    "no JSON": lambda path: write(path, "hello"),
    "another JSON": lambda path: write(path, "[]"),
    "no text": lambda path: path.write_bytes(bytes(range(256))),
    "without a field": lambda path: write(path, '{"run": "run-1"}'),
    "a field of a wrong type": lambda path: write(path, but(loop="many")),
    "a number that is none": lambda path: write(path, OLD.replace("20.5", "NaN")),
    "a time without a zone": lambda path: write(path, but(finished="2026-11-26T01:00:09")),
    "lists without end": lambda path: write(path, OLD.replace('"count": 3', f'"count": {"[" * 500}')),
    "a number without bound": lambda path: write(path, but(requests=10**4000)),
    "less than none": lambda path: write(path, but(network_changed=-1)),
    "a stage without end": lambda path: write(path, OLD.replace("20.5", "1e300")),
    "an answer that is no JSON": lambda path: write(path, but(answer={"count": 0}).replace("0}", "NaN}")),
    "half a letter": lambda path: write(path, OLD.replace("vpn.example", "\\ud800")),
    "a time of another age": lambda path: write(path, but(started="0001-01-01T00:00:00+23:59")),
    "a text without end": lambda path: write(path, but(exit_server="x" * 1_000_000)),
    "more failures than can be": lambda path: write(
        path, but(failures=[{"name": "", "message": "", "stage": ""}] * 2000)
    ),
    "another's screenshot": lambda path: write(path, but(screenshot="../../w1102/spool/run-1-000007.png")),
    "another's picture of another page": lambda path: write(path, but(more_screenshots=["../run-1-000007_01.png"])),
    "pictures without end": lambda path: write(path, but(more_screenshots=[f"{number}.png" for number in range(20)])),
    "another worker": lambda path: write(path, but(worker="w1102")),
    "another loop": lambda path: write(path, but(loop=8)),
    "another run": lambda path: write(path, but(run="run-2")),
    "a link to a result": lambda path: path.symlink_to("target"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_holds_no_result_is_left_out_and_told(tmp_path: Path, kind: str) -> None:
    """Whatever it is, it is told once with its path and a reason, and the results beside it are read."""
    write(tmp_path / "target", OLD)
    FOREIGN[kind](tmp_path / NAME)
    write(tmp_path / "run-1-000002.json", but(loop=2))
    reader = Reader(tmp_path, "run-1", worker="w1101")
    results, unreadable = reader.look()
    assert [one.loop for one in results] == [2]
    assert [one.path for one in unreadable] == [tmp_path / NAME]
    assert str(tmp_path / NAME) in unreadable[0].why and len(unreadable[0].why) < len(str(tmp_path)) + 200
    assert reader.look() == ([], [])
    found = newest(tmp_path, "w1101")
    assert found.result is not None and found.result.loop == 2 and len(found.unreadable) <= 1
    assert handed_in(tmp_path, "run-1")[0] == (7, NAME)


def test_other_names_are_not_looked_at(tmp_path: Path) -> None:
    """Notes, half-written files and screenshots are no results, and nothing is told of them."""
    for name in ("notes.json", ".run-1-000001.json.new", "run-1-000001.png", "run-1-1.json", "RUN-000001.json"):
        write(tmp_path / name, "{}")
    write(tmp_path / f"run-1-{'9' * 40}.json", "{}")
    assert Reader(tmp_path).look() == ([], [])
    assert newest(tmp_path) == NOTHING
    assert handed_in(tmp_path, "run-1") == []


def test_a_known_run_needs_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run with so many loops the names are known: results are found among more names than are listed."""
    write(tmp_path / NAME, OLD)
    write(tmp_path / "run-1-000009.json", but(loop=9))
    monkeypatch.setattr(Folder, "names", lambda _: ([], False))
    assert [one.loop for one in Reader(tmp_path, "run-1", loops=8).look()[0]] == [7]


def test_results_of_other_versions(tmp_path: Path) -> None:
    """One without a version reads as of version 1; fields that a later version has added are left alone."""
    write(tmp_path / NAME, OLD)
    write(tmp_path / "run-1-000008.json", but(loop=8, version=VERSION + 1, region="eu", failures=[]))
    old, new = read_spool(tmp_path)
    assert (old.version, old.rotate_ms, old.answer) == (1, 15.5, {"count": 3})
    assert (new.version, new.loop) == (VERSION + 1, 8)
    assert sum([old, new], Losses()) == Losses(pages=4, requests=164, network_changed=2)
    assert Result.model_validate_json(old.model_dump_json()) == old


def test_a_spool_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """A worker that swaps its spool for a link shows root no other folder."""
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / NAME, OLD)
    (tmp_path / "spool").symlink_to("other")
    results, unreadable = Reader(tmp_path / "spool").look()
    assert (results, [one.path for one in unreadable]) == ([], [tmp_path / "spool"])
    assert newest(tmp_path / "spool").result is None


def test_the_newest_is_the_one_written_last(tmp_path: Path) -> None:
    """By the time of writing and not by name; what is younger and holds nothing is told with it."""
    for age, name, text in ((30, "run-1-000009.json", but(loop=9)), (20, NAME, OLD), (10, "run-2-000001.json", "")):
        write(tmp_path / name, text)
        moment = datetime.now(timezone.utc).timestamp() - age
        os.utime(tmp_path / name, (moment, moment))
    (tmp_path / "run-2-000002.json.bad").touch()
    found = newest(tmp_path)
    assert found.result is not None and found.result.loop == 7
    assert [one.path.name for one in found.unreadable] == ["run-2-000001.json"]
    assert found.set_aside == 1


def test_no_folder_is_no_results(tmp_path: Path) -> None:
    """Before a worker's first start there is no spool."""
    assert read_spool(tmp_path / "spool") == []
    assert newest(tmp_path / "spool") == NOTHING


def test_what_held_none_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """A worker that sets a file aside does that loop again; a result that was read is not read again."""
    reader = Reader(tmp_path, "run-1", loops=9)
    write(tmp_path / NAME, "")
    assert len(reader.look()[1]) == 1
    (tmp_path / NAME).rename(tmp_path / f"{NAME}.bad")
    write(tmp_path / NAME, OLD)
    results, told = reader.look()
    assert ([one.loop for one in results], [one.path.name for one in told]) == ([7], [NAME])
    write(tmp_path / NAME, but(ok=False))
    assert reader.look() == ([], [])


def test_answers_without_end_are_left_out(tmp_path: Path) -> None:
    """One worker's answers do not fill the memory of who reads all of them; the results say that theirs is missing."""
    loops = ANSWER_BYTES // 3_000_000 + 2
    for loop in range(1, loops + 1):
        write(tmp_path / f"run-1-{loop:06d}.json", but(loop=loop, answer={"x": "x" * 3_000_000}, screenshot=None))
    cut = [one.answer_cut for one in read_spool(tmp_path)]
    assert len(cut) == loops and cut.index(True) == ANSWER_BYTES // 3_000_000


def test_only_the_owners_own_files_are_read(tmp_path: Path, root: None) -> None:
    """A link (hard or symbolic) to another's file, at the end of the path or on the way, gives nothing of it away."""
    home, secret = tmp_path / "w1101", tmp_path / "secret"
    (home / "spool").mkdir(parents=True)
    write(secret, OLD)
    write(home / "spool/run-1-000008.json", but(loop=8, screenshot=None))
    for path in (home, home / "spool", home / "spool/run-1-000008.json"):
        os.chown(path, 1101, 1101)
    os.link(secret, home / "spool" / NAME)
    reader = Reader(home / "spool")
    results, unreadable = reader.look()
    assert [one.loop for one in results] == [8]
    assert "belongs to UID 0 and not to 1101" in unreadable[0].why
    (home / "spool").rename(home / "other")
    (tmp_path / "roots").mkdir()
    write(tmp_path / "roots" / NAME, OLD)
    (tmp_path / "roots").rename(home / "spool")
    assert [one.path for one in Reader(home / "spool").look()[1]] == [home / "spool"]


def test_a_folder_full_of_names_is_not_listed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told that not all were looked at, and what was seen of it counts."""
    monkeypatch.setattr("fleet.machine.foreign.MOST_NAMES", 3)
    for number in range(5):
        (tmp_path / f"x{number}").touch()
    assert "not all were looked at" in newest(tmp_path).unreadable[0].why
