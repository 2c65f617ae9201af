"""What `fleet verify` says: a verdict a property, the report that holds them, and that report as text."""

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
    """Nothing bad was seen, and a breach could have gone unseen."""


class Property(BaseModel, frozen=True):
    """One promise, and what was seen of it."""

    name: str
    verdict: Verdict
    seen: str
    """One line for people."""
    evidence: tuple[str, ...] = ()


class Report(BaseModel, frozen=True):
    """The whole answer; can be handed to somebody: no key, no page and no name of a site is in it."""

    worker: str
    isolation: str
    time: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Kernel, browser and so on."""
    capture: dict[str, int]
    """Packets looked at, and lost unseen, by the capture at the uplink."""
    properties: tuple[Property, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0 only when every property holds; 1 for a breach; 75 when nothing is broken and something unproven."""
        verdicts = {one.verdict for one in self.properties}
        if Verdict.BROKEN in verdicts:
            return ExitCode.FAILED
        return ExitCode.DONE if verdicts == {Verdict.HOLDS} else ExitCode.TRY_LATER


_LAST = {
    ExitCode.DONE: "everything holds",
    ExitCode.FAILED: "something is broken: do not browse with this worker before it is mended",
    ExitCode.TRY_LATER: "nothing is broken, but not everything could be proven",
}


def text(report: Report) -> Iterator[str]:
    """Lines for people: one a property, what speaks against those that do not hold, then by what means.

    A worker's words are in them, and make no line of their own.
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
