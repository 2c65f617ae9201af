"""`fleet status` as text: a summary, what is wrong, then a block for each worker, the worst first.

Lines are at most 60 columns wide, except for paths and for text from other programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from fleet import visible
from fleet.model import Paths
from fleet.operate.progress import trouble
from fleet.result import Result
from fleet.status import FleetStatus, WorkerStatus
from fleet.supervise import ProgramState

State = Literal["DOWN", "FAILING", "waiting", "good"]
_ORDER: tuple[State, ...] = ("DOWN", "FAILING", "waiting", "good")
"""The worst is shown first."""
_INDENT = " " * 7


def state(worker: WorkerStatus) -> State:
    """The worker's state in one word."""
    if worker.process is None or worker.process.state not in ("STARTING", "RUNNING"):
        return "DOWN"
    if worker.last is None:
        return "FAILING" if worker.attempt_failed else "waiting"
    return "good" if worker.last.ok else "FAILING"


def works(seen: FleetStatus) -> bool:
    """Whether any worker does its work, or has just started and may."""
    running = seen.supervisor_pid is not None and seen.netctl is not None
    return running and any(state(worker) in ("good", "waiting") for worker in seen.workers)


def text(seen: FleetStatus, paths: Paths, now: datetime, differing: Sequence[str]) -> Iterator[str]:
    """The lines, control characters escaped; DIFFERING says how fleet.toml differs from what runs."""
    return map(visible.line, _lines(seen, paths, now, differing))


def _lines(seen: FleetStatus, paths: Paths, now: datetime, differing: Sequence[str]) -> Iterator[str]:
    if seen.supervisor_pid is None:
        yield "the fleet is not running; to start it: sudo fleet up"
    else:
        yield _counts(seen)
        yield from _machine(seen)
    for words in [*_problems(seen, paths), *differing]:
        yield f"! {words}"
    for worker in sorted(seen.workers, key=lambda one: _ORDER.index(state(one))):
        yield from _block(worker, paths, now, running=seen.supervisor_pid is not None)


def _counts(seen: FleetStatus) -> str:
    states = [state(worker) for worker in seen.workers]
    parts = [f"{states.count(one)} {one}" for one in reversed(_ORDER) if one in states]
    return f"{len(states)} workers: {', '.join(parts)}"


def _machine(seen: FleetStatus) -> Iterator[str]:
    if seen.netctl is None:
        return
    pool = seen.netctl.pool
    if pool is not None:
        counts = f"{pool.leased} leased, {pool.free} free, {pool.cooling} resting"
        yield f"{pool.keys} keys: {counts}; WireGuard: {seen.netctl.backend}"
    if seen.netctl.turns is not None:
        yield str(seen.netctl.turns)


def _problems(seen: FleetStatus, paths: Paths) -> Iterator[str]:
    """What is wrong with the fleet as a whole."""
    others = [one for one in seen.programs if not one.name.startswith("worker:")]
    for one in others:
        if one.state != "RUNNING":
            yield f"{one.name} {_seen(one)}; log: {paths.log(one.name.rpartition(':')[2])}"
    if seen.netctl is not None and seen.netctl.pool is not None and seen.netctl.pool.service:
        yield seen.netctl.pool.service
    if seen.netctl is not None and seen.netctl.pool_trouble:
        yield f"keys: {seen.netctl.pool_trouble}"
    elif seen.supervisor_pid is not None and seen.netctl is None:
        yield f"netctl does not answer: no worker gets a tunnel; log: {paths.log('netctl')}"
    for worker in seen.workers:
        for why in worker.unreadable[:1]:
            yield f"{worker.worker}: {len(worker.unreadable)} files hold no result: {why}"
        if worker.set_aside:
            yield f"{worker.worker}: {worker.set_aside} files set aside (*.bad), for they held no result"


def _seen(program: ProgramState) -> str:
    """supervisord's state of PROGRAM, with its explanation if there is one."""
    return f"{program.state}: {program.message}" if program.message else program.state


def _block(worker: WorkerStatus, paths: Paths, now: datetime, *, running: bool) -> Iterator[str]:
    process, slot, last, failed = worker.process, worker.slot, worker.last, worker.last_failed
    word = state(worker) if running else "stopped"
    yield f"{worker.worker}  {word}, {_last_loop(last, now)}"
    if worker.good or worker.failed:
        yield f"{_INDENT}{worker.good} of the last {worker.good + worker.failed} loops good"
    if process is not None and not process.pid:
        yield f"{_INDENT}process {_seen(process)}; log: {paths.log(worker.worker)}"
    elif process is not None and slot is not None:
        where = f", exit {slot.exit_server or '-'} as {slot.exit_address or '-'}" if slot.exit_server else ""
        yield f"{_INDENT}process {process.pid}, tunnel {slot.state}{where}"
    if worker.attempt_failed and running:
        yield f"{_INDENT}now: {worker.attempt_failed}"
    if failed is not None:
        which = "why" if failed is last else f"{failed.file_stem} failed {ago(failed.finished, now)}"
        yield f"{_INDENT}{which}: {reason(failed)}"
    if failed is not None and failed is last:
        yield f"{_INDENT}more: fleet log --around {worker.worker}/{failed.file_stem}"
    picture = (failed if failed is not None and failed.screenshot else last) if last is not None else None
    if picture is not None and picture.screenshot:
        yield f"{_INDENT}picture: {paths.state}/workers/{worker.worker}/spool/{picture.screenshot}"


def _last_loop(last: Result | None, now: datetime) -> str:
    if last is None:
        return "no result yet"
    seconds = (last.finished - last.started).total_seconds()
    return f"{last.file_stem} ended {ago(last.finished, now)}, took {seconds:.1f} s"


def reason(result: Result) -> str:
    """Why RESULT is not good, as one line."""
    told = trouble(result.failures[-1]) if result.failures else result.reason
    return f"{result.outcome}: {told or 'no reason given'}"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago MOMENT was: `40 s ago`, `3 days ago`."""
    seconds = (now - moment).total_seconds()
    for size, unit, most in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < most:
            return f"{max(seconds, 0) / size:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"
