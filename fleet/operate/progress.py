"""Shows a run in progress: a live table on a terminal, one line per loop elsewhere.

All of it goes to standard error; standard output is for the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fleet import visible
from fleet.model import Worker
from fleet.operate.run import Board, Report, Show
from fleet.result import Failure, Losses, Result
from fleet.terminal import console

COLUMNS = ("worker", "loop", "", "exit", "seen address", "seconds", "requests", "lost", "what went wrong")


@contextmanager
def display() -> Iterator[Show]:
    """A function that shows the board."""
    with console.live_table() as show:
        yield _lines if show is None else lambda board, _: show(_table(board))


def row(result: Result) -> tuple[str, ...]:
    """One loop in the cells of COLUMNS."""
    last = result.failures[-1] if result.failures else None
    return (
        result.worker,
        str(result.loop),
        "good" if result.ok else "FAILED",
        result.exit_server or "-",
        str(result.seen_address or "-"),
        f"{(result.finished - result.started).total_seconds():.1f}",
        str(result.requests),
        str(result.network_changed),
        trouble(last) if last is not None else "",
    )


def trouble(failure: Failure) -> str:
    """What went wrong as one line, with what to do."""
    return f"{failure.stage}: {failure.name}: {'; '.join(failure.message.splitlines())}"


def reasons(report: Report, most: int = 3) -> list[str]:
    """Why loops failed: each different reason once, at most MOST."""
    found = dict.fromkeys(trouble(item.failures[-1]) for item in report.runs if not item.ok and item.failures)
    return list(found)[:most]


def summary(report: Report) -> str:
    """The run as one line."""
    return (
        f"{report.run}: {report.good} of {report.loops * len(report.workers)} loops good, {report.bad} failed, "
        f"{report.missing} missing; {report.requests} requests, {report.network_changed} lost to ERR_NETWORK_CHANGED; "
        + (f"{report.unreadable} files that hold no result; " if report.unreadable else "")
        + f"{report.wall_seconds:.1f} s"
    )


def _lines(_: Board, fresh: list[Result]) -> None:
    for result in fresh:
        worker, loop, verdict, server, address, seconds, requests, lost, wrong = (
            visible.line(words) for words in row(result)
        )
        console.say(
            f"{worker} loop {loop} {verdict} by {server} as {address}, {seconds} s, "
            f"{requests} requests, {lost} lost{f'; {wrong}' if wrong else ''}"
        )


def _table(board: Board) -> console.Table:
    """One row for each worker."""
    return console.made_table(
        f"{board.order.run}: {board.order.loops} loops each",
        ("worker", "state", "good", "failed", "exit", "seen address", "seconds", "requests", "lost"),
        [_standing(board, worker) for worker in board.members],
    )


def _standing(board: Board, worker: Worker) -> tuple[str, ...]:
    results = [board.results[worker.name][loop] for loop in sorted(board.results[worker.name])]
    state = board.states.get(f"worker:{worker.name}")
    last = row(results[-1]) if results else ("-",) * len(COLUMNS)
    good, losses = sum(result.ok for result in results), sum(results, Losses())
    return (
        worker.name,
        state.state if state is not None else "-",
        f"{good}/{board.order.loops}",
        str(len(results) - good),
        *last[3:6],
        str(losses.requests),
        str(losses.network_changed),
    )
