"""What pytest tells the runner while it runs: one JSON object a line. The half of the runner that lives in pytest.

{"begun": TEST}
{"ended": TEST, "outcome": "passed" | "failed" | "skipped", "seconds": of all its phases, "text": why not passed}
{"left": FILE, "processor_seconds": of the file's tests and all they started, also what runs on}
{"without": NUMBER of tests that were left out because they need root}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

ALONE = Path("/run/outside.netns")
"""There in namespaces of one's own only (alone.sh)."""


class Events:
    """A pytest plugin."""

    def __init__(self, path: Path) -> None:
        self._to = path.open("a", buffering=1)
        self._file = ""
        self._used = processor_seconds()
        self._reports: list[pytest.TestReport] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Tests were left out."""
        if rooted := [item for item in items if item.config.getoption("--without-root")]:
            self._tell(without=len(rooted))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected has failed; one that skips itself too."""
        if not report.passed:
            self._tell(ended=report.nodeid, outcome="failed", seconds=0.0, text=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        file = nodeid.partition("::")[0]
        if self._file not in ("", file):
            self._leave()
        self._file, self._reports = file, []
        self._tell(begun=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of it has ended."""
        self._reports.append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """All of them have; the worst is the test's outcome."""
        outcomes = [report.outcome for report in self._reports]
        outcome = next((one for one in ("failed", "skipped") if one in outcomes), "passed")
        told = [text for report in self._reports if report.outcome == outcome != "passed" for text in _told(report)]
        seconds = sum(report.duration for report in self._reports)
        self._tell(ended=nodeid, outcome=outcome, seconds=round(seconds, 3), text="\n".join(told))

    def pytest_sessionfinish(self) -> None:
        """Also the last file is left."""
        if self._file:
            self._leave()

    def _leave(self) -> None:
        before, self._used = self._used, processor_seconds()
        self._tell(left=self._file, processor_seconds=round(self._used - before, 2))

    def _tell(self, **event: object) -> None:
        self._to.write(json.dumps(event) + "\n")


def _told(report: pytest.TestReport) -> list[str]:
    """Everything about a phase that did not pass: where, and what was captured."""
    return [f"[{report.when}] {report.longreprtext}", *(f"--- {name}\n{text}" for name, text in report.sections)]


def processor_seconds() -> float:
    """What all processes here have used so far, and those that have ended below them.

    In process namespaces of one's own (alone.sh) that is everything that was ever started here. Elsewhere only this
    process and its children count.
    """
    if ALONE.exists():
        infos = [process.info["cpu_times"] for process in psutil.process_iter(["cpu_times"])]
        return sum(sum(times[:4]) for times in infos if times)
    return sum(os.times()[:4])
