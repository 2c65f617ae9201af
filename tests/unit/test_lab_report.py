"""The demo's report: its numbers, its exact shape, its screenshots."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from fleet.result import Result
from lab import report

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
STAGES = {"tunnel": 20.0, "proof": 30.0, "browser_start": 900.0, "load": 800.0, "search": 700.0}
STAGES |= {"screenshot": 60.0, "browser_end": 200.0, "hand_in": 40.0}


def loop(worker: str, number: int, seen: str = "203.0.113.11", *, ok: bool = True, lost: int = 0) -> Result:
    """A loop of 2.8 s, of which 2.66 s are Chrome's."""
    return Result(
        run="run-1",
        worker=worker,
        loop=number,
        ok=ok,
        started=START,
        finished=START + timedelta(milliseconds=2800),
        attempts=1,
        exit_server="203.0.113.11",
        exit_address=ip_address("203.0.113.11"),
        seen_address=ip_address(seen),
        stages_ms=STAGES,
        rotate_ms=12.0,
        pages=2,
        requests=82,
        network_changed=lost,
        screenshot=f"run-1-{number:06d}.png",
    )


def make(*results: Result, events: int = 0) -> report.Report:
    """A report on two loops of one worker."""
    return report.make(results, workers=1, loops=2, address_events=events, wall_seconds=7.04)


def test_good_only_when_every_loop_is_and_nothing_was_lost() -> None:
    """A failed loop, a missing one, a lost request, an address event or a wrong exit each spoil it."""
    good = loop("w1101", 1)
    assert make(good, loop("w1101", 2)).ok
    assert make(good).failures == 1
    assert make(good, loop("w1101", 2, ok=False)).failures == 1
    assert make(good, loop("w1101", 2, seen="198.51.100.10")).failures == 1
    assert not make(good, loop("w1101", 2, lost=1)).ok
    assert not make(good, loop("w1101", 2), events=1).ok


def test_own_time_is_what_chrome_and_the_page_did_not_take() -> None:
    """Stages outside the browser, and what lies between the stages."""
    assert round(report.own_milliseconds(loop("w1101", 1))) == 140


def test_the_browser_window_runs_from_first_start_to_last_end() -> None:
    """Tunnel and proof come before it, handing in after it; without a browser there is none."""
    assert report.browser_window([loop("w1101", 1)]) == (
        START + timedelta(milliseconds=50),
        START + timedelta(milliseconds=2760),
    )
    assert report.browser_window([]) is None


def test_files_have_the_promised_shape(tmp_path: Path) -> None:
    """report.json has exactly the promised keys; report.html a row a loop; screenshots lie beside them."""
    spool = tmp_path / "spool"
    spool.mkdir()
    results = (loop("w1101", 1), loop("w1101", 2))
    for result in results:
        (spool / str(result.screenshot)).write_bytes(b"png")
    report.write(tmp_path / "out", make(*results), results, {"w1101": spool})
    document = json.loads((tmp_path / "out/report.json").read_text())
    keys = {"workers", "loops", "pages", "requests", "network_changed", "address_events", "failures", "wall_seconds"}
    assert set(document) == keys | {"runs"}
    run_keys = {
        "worker",
        "loop",
        "exit",
        "seen_address",
        "stages_ms",
        "requests",
        "network_changed",
        "ok",
        "screenshot",
    }
    assert [set(run) for run in document["runs"]] == [run_keys] * 2
    for run in document["runs"]:
        assert (tmp_path / "out" / run["screenshot"]).read_bytes() == b"png"
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<tr>") == 3
    assert "http" not in page.replace("https://shop.example", "")


def test_a_screenshot_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """The spool is the worker's: what it links to stays out of the report."""
    spool = tmp_path / "spool"
    spool.mkdir()
    result = loop("w1101", 1)
    (spool / str(result.screenshot)).symlink_to("/etc/shadow")
    report.write(tmp_path / "out", make(result), (result,), {"w1101": spool})
    assert list((tmp_path / "out/screenshots").iterdir()) == []
