"""`fleet run`: every worker does a number of loops, then everything ends.

The workers read the run order and write results into their spools; this module only watches. The run
ends when every result is there, when a program fails for good, when nothing happens for longer than
a loop can take, when supervisord ends, or on a signal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ConfigDict

from fleet import log
from fleet.errors import FleetError, Unavailable
from fleet.machine.files import write_durably
from fleet.machine.interrupts import Interrupts
from fleet.machine.processes import Handle
from fleet.model import Fleet, Paths, Worker
from fleet.operate import lifecycle
from fleet.programs import Installation
from fleet.result import Losses, Result, RunOrder
from fleet.spool import Reader, newest
from fleet.supervise import ProgramState, Supervisor

_LOOK_SECONDS = 0.3
_MARGIN_SECONDS = 60.0
_END_SECONDS = 5.0
"""How long workers may take to end by themselves after their last loop."""
_MOST_NAMED = 20
"""How many unreadable files are named, so that a spool full of garbage does not flood the terminal."""
_log = log.get("fleet")


class Report(Losses):
    """The result of a run, and the losses of all its loops."""

    model_config = ConfigDict(frozen=True)
    run: str
    workers: tuple[str, ...]
    loops: int
    """Loops that each worker was to do."""
    good: int
    bad: int
    missing: int
    """Loops without a result."""
    unreadable: int
    """Files in the spools that are named like a result but hold none."""
    wall_seconds: float
    trouble: str | None
    """Why the run ended early; None: it did not."""
    runs: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether every loop has a result and all are good."""
        return not (self.bad or self.missing or self.trouble)


class Board:
    """What is known during a run: results by worker and loop, the programs' states, unreadable files."""

    def __init__(self, order: RunOrder, members: tuple[Worker, ...], paths: Paths) -> None:
        self.order = order
        self.members = members
        self.results: dict[str, dict[int, Result]] = {worker.name: {} for worker in members}
        self.unreadable: set[Path] = set()
        self.states: dict[str, ProgramState] = {}
        last = (newest(paths.spool(worker), worker.name).result for worker in members)
        self.rest_seconds = max((_rest(one) for one in last), default=0.0)
        """How long a worker may pause because a site asked for it (Retry-After), in this run or an earlier one."""
        self._spools = {
            worker.name: Reader(paths.spool(worker), order.run, worker=worker.name, loops=order.loops)
            for worker in members
        }

    def look(self) -> list[Result]:
        """The results that are new since the last call; a file without a result is logged once, and counted."""
        fresh = list(self._fresh())
        for result in fresh:
            self.results[result.worker][result.loop] = result
            self.rest_seconds = max(self.rest_seconds, _rest(result))
        return fresh

    def _fresh(self) -> Iterator[Result]:
        for spool in self._spools.values():
            found, unreadable = spool.look()
            for one in unreadable:
                if one.path not in self.unreadable and len(self.unreadable) < _MOST_NAMED:
                    _log.warning("spool.unreadable", reason=one.why)
                self.unreadable.add(one.path)
            yield from (one for one in found if one.loop <= self.order.loops)

    @property
    def complete(self) -> bool:
        return all(len(found) >= self.order.loops for found in self.results.values())

    def all_results(self) -> tuple[Result, ...]:
        """All results, by worker, then by loop."""
        return tuple(found[loop] for found in self.results.values() for loop in sorted(found))


def _rest(result: Result | None) -> float:
    return (result.retry_after_seconds or 0.0) if result is not None else 0.0


Show = Callable[[Board, list[Result]], None]
"""Called at every poll with the board and the new results."""


def run(fleet: Fleet, installation: Installation, loops: int, show: Show) -> Report:
    """Start everything, wait for LOOPS loops of every worker, stop everything.

    Raises FleetError when the fleet does not start; what fails after that is in the report, beside the results.
    """
    started = time.monotonic()
    paths = installation.paths
    order = RunOrder(run=f"run-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}", loops=loops)
    board = Board(order, fleet.members, paths)
    trouble: str | None = None
    with lifecycle.operator(paths), Interrupts() as interrupts:
        lifecycle.refuse_if_running(installation)
        with lifecycle.starting(fleet, installation, interrupts):
            write_durably(paths.run_order, order.model_dump_json().encode(), 0o644)
            launched = lifecycle.launch(fleet, installation, end_with_us=True)
            trouble = _come_up(installation, launched) or _watch(fleet, installation, board, show, launched)
        with interrupts.shield():
            left = _end(fleet, installation)
    return _report(board, trouble or left, time.monotonic() - started)


def _end(fleet: Fleet, installation: Installation) -> str | None:
    """Stop the fleet; returns the error as text, or None, so that the report is printed in any case."""
    try:
        lifecycle.stop(fleet, installation)
    except FleetError as error:
        return f"{error.message}; what to do: {error.hint or 'fleet down'}"
    return None


def _come_up(installation: Installation, launched: lifecycle.Launched) -> str | None:
    """Wait until the programs run; returns why they do not, None when they do."""
    try:
        lifecycle.wait_until_up(installation, launched.trouble)
    except FleetError as error:
        return error.message
    return None


def _watch(
    fleet: Fleet, installation: Installation, board: Board, show: Show, launched: lifecycle.Launched
) -> str | None:
    """Watch until the run ends; returns why it ended early, None when every result is there."""
    supervisor = Supervisor(installation)
    patience = loop_seconds(fleet)
    progress = time.monotonic()
    with Handle(launched.supervisord.pid) as process:
        while True:
            try:
                states = supervisor.states()
                board.states = {state.name: state for state in states}
                fresh = board.look()
                show(board, fresh)
                if board.complete and _all_ended(board):
                    return None
                launched.trouble.check(states)
                _all_still_working(board)
            except FleetError as error:
                show(board, board.look())
                ended = isinstance(error, Unavailable)
                return "supervisord ended during the run" if ended else error.message
            if fresh:
                progress = time.monotonic()
            if board.complete and time.monotonic() - progress > _END_SECONDS:
                return None  # every result is there; a worker that has not ended by itself is ended with the fleet
            if time.monotonic() - progress > (most := patience + board.rest_seconds):
                return f"no loop ended within {most:.0f} s, which is longer than one can take"
            process.wait(_LOOK_SECONDS)


def _all_ended(board: Board) -> bool:
    return all(not state.pid for name, state in board.states.items() if name.startswith("worker:"))


def _all_still_working(board: Board) -> None:
    """Raises FleetError for a worker that ended without an error before its last loop."""
    for worker in board.members:
        state, found = board.states.get(f"worker:{worker.name}"), board.results[worker.name]
        # STOPPED: an operator's `supervisorctl stop`; they may start it again.
        if state is not None and state.ended and len(found) < board.order.loops:
            board.look()
            if len(found) < board.order.loops:
                raise FleetError(f"{worker.name} ended after {len(found)} of {board.order.loops} loops")


def loop_seconds(fleet: Fleet) -> float:
    """An upper bound of the seconds that a loop can take with all its attempts."""
    browser = fleet.browser
    one = fleet.netctl.request_deadline_seconds + browser.start_timeout_seconds + 3 * browser.page_load_timeout_seconds
    # Browser starts wait for one another.
    return fleet.loop.attempts * (one + fleet.egress.timeout_seconds) + fleet.loop.pause_seconds + _MARGIN_SECONDS


def _report(board: Board, trouble: str | None, wall_seconds: float) -> Report:
    runs = board.all_results()
    good = sum(result.ok for result in runs)
    return Report(
        run=board.order.run,
        workers=tuple(worker.name for worker in board.members),
        loops=board.order.loops,
        good=good,
        bad=len(runs) - good,
        missing=board.order.loops * len(board.members) - len(runs),
        unreadable=len(board.unreadable),
        wall_seconds=round(wall_seconds, 3),
        trouble=trouble,
        runs=runs,
        **sum(runs, Losses()).model_dump(),
    )
