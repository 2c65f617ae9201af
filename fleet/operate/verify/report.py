"""The report as text; as JSON it is the model itself."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import ExitCode
from fleet.operate.verify.values import Report, Verdict

_LAST = {
    ExitCode.DONE: "everything holds",
    ExitCode.FAILED: "something is broken: do not browse with this worker before it is mended",
    ExitCode.TRY_LATER: "nothing is broken, but not everything could be proven",
}


def text(report: Report) -> Iterator[str]:
    """Lines for people: one a property, what speaks against those that do not hold, then by what means."""
    for one in report.properties:
        yield f"{one.verdict.value:9} {one.name:9} {one.seen}"
        if one.verdict is not Verdict.HOLDS:
            yield from (f"{'':20}{line}" for line in one.evidence)
    yield ""
    yield f"worker {report.worker}, isolation {report.isolation}, {report.time}"
    yield ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield "capture at the uplink: " + ", ".join(f"{count} packets {what}" for what, count in report.capture.items())
    yield _LAST[report.exit_code]
