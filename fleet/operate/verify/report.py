"""The output of `fleet verify`: a verdict for each property, the report that holds them, and that report as text."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from pydantic import BaseModel

from fleet import visible
from fleet.errors import ExitCode


class Verdict(str, enum.Enum):
    """What is known of a property."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNPROVEN = "unproven"
    """No breach was seen, but one could have gone unseen."""


class Property(BaseModel, frozen=True):
    """One promise, its verdict and what was seen."""

    name: str
    verdict: Verdict
    seen: str
    """One line for people."""
    evidence: tuple[str, ...] = ()


class Report(BaseModel, frozen=True):
    """The whole result. It is safe to pass on: it holds no key, no page and no name of a site."""

    worker: str
    isolation: str
    time: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Kernel, browser and so on."""
    capture: dict[str, int]
    """Packets that the capture at the uplink inspected (`seen`), and lost without inspection (`lost`)."""
    properties: tuple[Property, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0 when every property holds; 1 for a breach; 75 when nothing is broken but something is unproven."""
        verdicts = {one.verdict for one in self.properties}
        if Verdict.BROKEN in verdicts:
            return ExitCode.FAILED
        return ExitCode.DONE if verdicts == {Verdict.HOLDS} else ExitCode.TRY_LATER


_LAST = {
    ExitCode.DONE: "everything holds",
    ExitCode.FAILED: "something is broken: do not browse with this worker before it is repaired",
    ExitCode.TRY_LATER: "nothing is broken, but not everything could be proven",
}


def text(report: Report) -> Iterator[str]:
    """Lines for people: one for each property, with the evidence when it does not hold; then worker, versions, capture.

    They contain text from the worker, escaped so that it cannot start a line of its own.
    """
    for one in report.properties:
        yield visible.line(f"{one.verdict.value:9} {one.name:9} {one.seen}")
        if one.verdict is not Verdict.HOLDS:
            yield from (visible.line(f"{'':20}{line}") for line in one.evidence)
    yield ""
    yield f"worker {report.worker}, isolation {report.isolation}, {report.time}"
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield "capture at the uplink: " + ", ".join(f"{count} packets {what}" for what, count in report.capture.items())
    yield _LAST[report.exit_code]
