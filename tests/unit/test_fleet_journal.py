"""`fleet log`: lines of many logs in the order of time, whatever their content."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet.errors import FleetError, UsageError
from fleet.model import Fleet, Paths
from fleet.operate import journal
from fleet.operate.journal import Log
from fleet.result import Result
from fleet.snapshot import Snapshot

NOON = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
FLEET = Fleet.model_validate(
    {"workers": {"count": 2}, "dns": {"resolvers": ["192.0.2.53"]}, "egress": {"urls": ["https://shop.example/ip"]}}
)


def line(seconds: float, event: str, **more: object) -> str:
    """A line as a program writes it."""
    moment = (NOON + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": moment, "level": "info", **more, "event": event}) + "\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Logs of netctl and of two workers, and one result of the first worker."""
    made = Paths(root=tmp_path)
    for folder in (made.logs, made.snapshot.parent):
        folder.mkdir(parents=True)
    made.log("w1101").write_text(line(1, "loop.begun", loop=7) + "words of no program\n" + line(3, "page.failed"))
    made.log("w1102").write_text(line(2, "loop.begun") + line(200, "loop.begun"))
    made.log("netctl").write_text(
        line(2.5, "tunnel.connected", worker="w1101") + line(2.6, "slot.sealed", worker="w1102")
    )
    made.log("wg101").write_text("DEBUG: a tunnel's program\n")
    made.snapshot.write_text(Snapshot(release=tmp_path, fleet=FLEET).model_dump_json())
    return made


FAILED = line(5, "attempt.failed", stage="tunnel", name="NoWay", reason="this host has no way\nwhat to do: ip route")


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("", "tunnel: NoWay: this host has no way"),
        (line(6, "stage.begun", stage="tunnel") + FAILED, "tunnel: NoWay: this host has no way"),
        (line(6, "tunnel.ready"), None),
        (line(6, "loop.done"), None),
        (line(6, "attempt.failed", name=[1], reason={"a": None}), "None: [1]: {'a': None}"),
    ],
)
def test_why_the_last_attempt_failed(tmp_path: Path, after: str, why: str | None) -> None:
    """It is one line, or None if the tunnel or a loop succeeded since; a missing or odd log is no error."""
    path = tmp_path / "w1101.log"
    assert journal.attempt_failed(path) is None
    path.write_text(FAILED + after + "half a li")
    assert journal.attempt_failed(path) == why


Said = Callable[..., list[str]]


@pytest.fixture
def said(paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """A function that gives the lines of `fleet log` with these options."""
    monkeypatch.setenv("FLEET_ROOT", str(paths.root))

    def lines(**options: object) -> list[str]:
        usual = {"json": False, "follow": False, "worker": None, "around": None, "lines": 100}
        journal.show(argparse.Namespace(**{**usual, **options}))
        return capsys.readouterr().out.splitlines()

    return lines


def test_all_in_the_order_of_time(said: Said) -> None:
    """Each line has its log's name; one without a time follows the line before it; logs of tunnels are not included."""
    assert [text.split(" ", 2)[2] for text in said()] == [
        "w1101 loop.begun loop=7",
        "w1101 words of no program",
        "w1102 loop.begun",
        "netctl tunnel.connected worker=w1101",
        "netctl slot.sealed worker=w1102",
        "w1101 page.failed",
        "w1102 loop.begun",
    ]
    assert len(said(lines=2)) == 2
    assert [json.loads(text)["source"] for text in said(json=True, lines=2)] == ["w1101", "w1102"]


def test_of_one_worker(said: Said) -> None:
    """Its own lines, and netctl's lines about it."""
    assert [text.split()[2] for text in said(worker="w1101")] == ["w1101", "w1101", "netctl", "w1101"]


def test_around_a_loop(said: Said, paths: Paths) -> None:
    """All lines while the loop ran; an unknown loop is one clear error."""
    folder = paths.spool(FLEET.members[0])
    folder.mkdir(parents=True)
    begun, ended = NOON, NOON + timedelta(seconds=9)
    result = Result(
        run="always", worker="w1101", loop=7, ok=False, started=begun, finished=ended, attempts=1, stages_ms={}
    )
    (folder / "always-000007.json").write_text(result.model_dump_json())
    for place in (folder, folder.parent):
        place.chmod(0o700)
    for name in ("always-000007", "w1101/always-000007"):
        assert len(said(around=name)) == 6, "all but the line that is minutes later"
    with pytest.raises(FleetError, match="no result of a loop 'always-000008'"):
        said(around="always-000008")
    with pytest.raises(UsageError, match="either"):
        said(around="always-000007", follow=True)


def test_nothing_in_a_line_is_obeyed(said: Said, paths: Paths) -> None:
    """Escapes, line breaks, endless lines, JSON that is no object or endlessly nested: all are text, and bounded."""
    odd = [line(1, "a\x1b]52;c;\u202e", why="b\nc"), "[" * 100_000, '"text"\n', "\xff\n", "x" * 100_000, "\n"]
    odd.append('{"event": "odd", "much": 1e999, "source": "netctl", "timestamp": "2999-01-01T00:00:00Z"}\n')
    paths.log("w1102").write_text("".join(odd))
    shown = said(worker="w1102")
    assert r"a\x1b]52;c;\u202e why=b\x0ac" in shown[0]
    assert max(map(len, shown)) < 1100
    found = [json.loads(text, parse_constant=pytest.fail) for text in said(json=True, worker="w1102")]
    (one,) = (one for one in found if one["event"] == "odd")
    assert (one["much"], one["source"]) == ("inf", "w1102") and one["timestamp"] < "2100"
    assert not any("\x1b" in text or "\u202e" in text for text in [*shown, *said(json=True)])


def test_what_comes_later_and_a_log_that_was_rotated(tmp_path: Path) -> None:
    """Each read gives new lines; an incomplete line waits for its end; after a rotation the rest, then the new log."""
    path = tmp_path / "w1101.log"
    log = Log(path)
    assert [*log.read(1000)] == []
    path.write_text(line(1, "one") + '{"half')
    assert [one.fields["event"] for one in log.read(1000)] == ["one"]
    path.write_text(line(1, "one") + line(2, "two"))
    assert [one.fields["event"] for one in log.read(1000)] == ["two"]
    with path.open("a") as old:
        path.rename(tmp_path / "w1101.log.1")
        old.write(line(3, "three"))
    assert [*log.read(1000)] == [], "its successor is not there yet"
    path.write_text(line(4, "four"))
    assert [one.fields["event"] for one in log.read(1000)] == ["three", "four"]
    assert [one.fields["event"] for one in Log(tmp_path / "w1101.log.1").read(100)] == ["three"], "the last bytes alone"
    os.truncate(path, 0)
    assert [*log.read(1000)] == []
    path.write_text(line(5, "five"))
    assert [one.fields["event"] for one in log.read(1000)] == ["five"]
