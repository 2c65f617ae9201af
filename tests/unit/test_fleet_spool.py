"""What a reader makes of a spool in which anything may lie."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fleet import spool
from fleet.result import VERSION, Losses, Result
from fleet.spool import RESULT_BYTES, Reader, last_loop, newest, read_spool

NAME = "run-1-000007.json"
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
    reader = Reader(tmp_path, "run-1")
    results, unreadable = reader.look()
    assert [one.loop for one in results] == [2]
    assert [one.path for one in unreadable] == [tmp_path / NAME]
    assert str(tmp_path / NAME) in unreadable[0].why and len(unreadable[0].why) < len(str(tmp_path)) + 200
    assert reader.look() == ([], [])
    found, younger = newest(tmp_path)
    assert found is not None and found.loop == 2 and len(younger) <= 1
    assert last_loop(tmp_path, "run-1") == 7


def test_other_names_are_not_looked_at(tmp_path: Path) -> None:
    """Notes, half-written files and screenshots are no results, and nothing is told of them."""
    for name in ("notes.json", ".run-1-000001.json.new", "run-1-000001.png", "run-1-1.json", "RUN-000001.json"):
        write(tmp_path / name, "{}")
    write(tmp_path / f"run-1-{'9' * 40}.json", "{}")
    assert Reader(tmp_path).look() == ([], [])
    assert newest(tmp_path) == (None, ())
    assert last_loop(tmp_path, "run-1") == 0


def test_the_last_loop_is_known_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand files are told by their names, of which none holds a result."""
    for number in range(1, 20_001):
        (tmp_path / f"always-{number:06d}.json").touch()
    (tmp_path / "run-1-999999.json").touch()
    monkeypatch.delattr(spool, "read_foreign")
    assert last_loop(tmp_path, "always") == 20_000
    assert last_loop(tmp_path, "run-2") == 0


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
    assert newest(tmp_path / "spool")[0] is None


def test_the_newest_is_the_one_written_last(tmp_path: Path) -> None:
    """By the time of writing and not by name; what is younger and holds nothing is told with it."""
    for age, name, text in ((30, "run-1-000009.json", but(loop=9)), (20, NAME, OLD), (10, "run-2-000001.json", "")):
        write(tmp_path / name, text)
        moment = datetime.now(timezone.utc).timestamp() - age
        os.utime(tmp_path / name, (moment, moment))
    found, younger = newest(tmp_path)
    assert found is not None and found.loop == 7
    assert [one.path.name for one in younger] == ["run-2-000001.json"]


def test_no_folder_is_no_results(tmp_path: Path) -> None:
    """Before a worker's first start there is no spool."""
    assert read_spool(tmp_path / "spool") == []
    assert newest(tmp_path / "spool") == (None, ())
