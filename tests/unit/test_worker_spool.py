"""Handing in, and going on after an earlier life."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from fleet.result import Result
from fleet.spool import read_spool
from worker.spool import Spool


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
