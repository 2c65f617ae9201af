"""The result of a demo: report.json, report.html, screenshots beside them, and a summary as text."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from pydantic import BaseModel, Field

from fleet import visible
from fleet.machine.foreign import Folder
from fleet.result import Losses, Result

_TEMPLATE: Final = "report.html.j2"
_SCREENSHOT_BYTES: Final = 64 << 20
STAGES: Final = ("tunnel", "proof", "browser_start", "load", "search", "screenshot", "browser_end", "hand_in")
BROWSER_STAGES: Final = ("browser_start", "load", "search", "screenshot", "browser_end")
"""The stages of a loop in Chrome and on the page; the rest is the loop's own time."""


class Run(BaseModel, frozen=True):
    """One loop of one worker in report.json."""

    worker: str
    loop: int
    exit: str | None
    seen_address: str | None
    stages_ms: dict[str, float]
    requests: int
    network_changed: int
    ok: bool
    screenshot: str | None
    """Path from report.json's folder."""


class Report(Losses, frozen=True):
    """report.json, with the losses of all loops."""

    workers: int
    loops: int
    """Asked of each worker."""
    other_losses: int = Field(default=0, exclude=True)
    address_events: int
    """In the host's namespace, from the first browser start to the last browser end."""
    failures: int
    """Loops that failed, were seen from another address than the leased exit, or have no result."""
    wall_seconds: float
    runs: tuple[Run, ...]
    unreadable: int = Field(default=0, exclude=True)
    """Files in the spools that have the name of a result and are not one."""
    leaks: tuple[str, ...] = Field(default=(), exclude=True)
    """Leaks past the tunnels; for people, not in the file."""

    @property
    def ok(self) -> bool:
        """All loops succeeded and nothing was lost."""
        return not (self.failures or self.network_changed or self.address_events or self.leaks)


def browser_window(results: Sequence[Result]) -> tuple[datetime, datetime] | None:
    """From the first browser start to the last browser end; None when no browser ran."""
    ran = [result for result in results if "browser_start" in result.stages_ms]
    if not ran:
        return None
    before = ("tunnel", "proof")
    starts = (one.started + timedelta(milliseconds=sum(one.stages_ms.get(name, 0) for name in before)) for one in ran)
    ends = (one.finished - timedelta(milliseconds=one.stages_ms.get("hand_in", 0)) for one in ran)
    return min(starts), max(ends)


def make(
    results: Sequence[Result],
    *,
    workers: int,
    loops: int,
    address_events: int,
    wall_seconds: float,
    leaks: tuple[str, ...] = (),
    unreadable: int = 0,
) -> Report:
    """The report on RESULTS of WORKERS that should do LOOPS each."""
    runs = tuple(_run(result) for result in sorted(results, key=lambda one: (one.worker, one.loop)))
    return Report(
        workers=workers,
        loops=loops,
        address_events=address_events,
        failures=workers * loops - sum(run.ok for run in runs),
        wall_seconds=round(wall_seconds, 1),
        runs=runs,
        leaks=leaks,
        unreadable=unreadable,
        **sum(results, Losses()).model_dump(),
    )


def _run(result: Result) -> Run:
    right_exit = result.seen_address is not None and result.seen_address == result.exit_address
    return Run(
        worker=result.worker,
        loop=result.loop,
        exit=result.exit_server,
        seen_address=str(result.seen_address) if result.seen_address else None,
        stages_ms={name: round(spent, 1) for name, spent in result.stages_ms.items()},
        requests=result.requests,
        network_changed=result.network_changed,
        ok=result.ok and right_exit,
        screenshot=f"screenshots/{result.worker}-{result.loop}.png" if result.screenshot else None,
    )


def own_milliseconds(result: Result) -> float:
    """The time that the loop took outside Chrome and the page."""
    whole = (result.finished - result.started).total_seconds() * 1000
    return whole - sum(result.stages_ms.get(name, 0) for name in BROWSER_STAGES)


def summary(report: Report, results: Sequence[Result]) -> list[tuple[str, str]]:
    """The report in words and numbers, for people."""
    good = sum(run.ok for run in report.runs)
    return [
        ("loops good", f"{good} of {report.workers * report.loops}"),
        ("pages, requests", f"{report.pages}, {report.requests}"),
        ("requests lost to ERR_NETWORK_CHANGED", str(report.network_changed)),
        ("requests lost to anything else", str(report.other_losses)),
        ("address events while browsers ran", str(report.address_events)),
        ("requests and queries past the tunnels", str(len(report.leaks))),
        ("files in the spools that are not results", str(report.unreadable)),
        ("exits used", str(len({run.exit for run in report.runs if run.exit}))),
        ("rotate, median", _median((one.rotate_ms for one in results), "ms")),
        ("handshake, median", _median((one.handshake_ms for one in results), "ms")),
        ("loop's own time outside Chrome and page, median", _median(map(own_milliseconds, results), "ms")),
        ("loop's own time outside Chrome and page, longest", _longest(map(own_milliseconds, results))),
        ("wall time", f"{report.wall_seconds:.1f} s"),
    ]


def _median(values: Iterable[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.1f} {unit}" if known else "-"


def _longest(values: Iterable[float]) -> str:
    return f"{max(values, default=0):.1f} ms"


def verdict(report: Report) -> str:
    """One sentence."""
    if report.ok:
        return f"All {report.workers * report.loops} loops good, nothing lost"
    return (
        f"Not good: {report.failures} failures, {report.network_changed} requests lost to ERR_NETWORK_CHANGED, "
        f"{report.address_events} address events, {len(report.leaks)} leaks"
    )


def write(folder: Path, report: Report, results: Sequence[Result], spools: dict[str, Path]) -> None:
    """Write everything into FOLDER; SPOOLS: each worker's folder with its screenshots. Raises OSError.

    An earlier report in FOLDER is replaced, anything else in it stays.
    """
    screenshots = folder / "screenshots"
    shutil.rmtree(screenshots, ignore_errors=True)
    screenshots.mkdir(parents=True)
    for result in results:
        if result.screenshot and (home := spools.get(result.worker)):
            # A worker chose the name: use only its last part, and follow no link.
            with contextlib.suppress(OSError), Folder(home.parent, home.name) as spool:
                png = spool.read(Path(result.screenshot).name, _SCREENSHOT_BYTES)
                (screenshots / f"{result.worker}-{result.loop}.png").write_bytes(png)
    text = visible.json(json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False))
    (folder / "report.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "report.html").write_text(_html(report, results), encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible.lines(value) if isinstance(value, str) else value,
    )
    return environment.get_template(_TEMPLATE)


def _html(report: Report, results: Sequence[Result]) -> str:
    reasons = {
        (one.worker, one.loop): f"{one.failures[-1].stage}: {one.failures[-1].name}: {one.failures[-1].message}"
        for one in results
        if one.failures and not one.ok
    }
    return _template().render(
        report=report, summary=summary(report, results), verdict=verdict(report), stages=STAGES, reasons=reasons
    )
