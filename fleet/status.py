"""The whole fleet as it is at one moment; every view shows this one value."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from fleet.client import Client
from fleet.errors import Unavailable
from fleet.model import Paths, Worker
from fleet.netctl_api import NetctlStatus, SlotStatus, Status
from fleet.programs import Installation
from fleet.result import Result
from fleet.spool import newest
from fleet.supervise import ProgramState, Supervisor


class WorkerStatus(BaseModel, frozen=True):
    """One worker, seen from three sides."""

    worker: str
    process: ProgramState | None
    slot: SlotStatus | None
    last: Result | None
    unreadable: tuple[str, ...] = ()
    """What lies in its spool instead of a younger result, and why that is none."""
    set_aside: int = 0
    """Files in its spool that held no result and that it has renamed to `*.bad`."""


class FleetStatus(BaseModel, frozen=True):
    """Everything that can be known from outside at one moment."""

    supervisor_pid: int | None
    programs: tuple[ProgramState, ...]
    netctl: NetctlStatus | None
    workers: tuple[WorkerStatus, ...]


COLUMNS = ("worker", "state", "pid", "tunnel", "exit", "address", "last loop", "ended (UTC)", "seconds", "lost")


def take(members: tuple[Worker, ...], installation: Installation) -> FleetStatus:
    """Ask supervisord, netctl and the spools; a side that does not answer is None or empty."""
    supervisor = Supervisor(installation)
    pid = supervisor.pid()
    programs = supervisor.states() if pid is not None else ()
    try:
        netctl = netctl_status(installation.paths)
    except Unavailable:
        netctl = None
    states = {program.name: program for program in programs}
    slots = {slot.worker: slot for slot in netctl.slots} if netctl is not None else {}

    def one(worker: Worker) -> WorkerStatus:
        spool = newest(installation.paths.spool(worker), worker.name)
        return WorkerStatus(
            worker=worker.name,
            process=states.get(f"worker:{worker.name}"),
            slot=slots.get(worker.name),
            last=spool.result,
            unreadable=tuple(one.why for one in spool.unreadable),
            set_aside=spool.set_aside,
        )

    return FleetStatus(
        supervisor_pid=pid, programs=programs, netctl=netctl, workers=tuple(one(worker) for worker in members)
    )


def rows(seen: FleetStatus) -> Iterator[tuple[str, ...]]:
    """The cells of COLUMNS, a row a worker."""
    for worker in seen.workers:
        process, slot, last = worker.process, worker.slot, worker.last
        yield (
            worker.worker,
            process.state if process else "-",
            str(process.pid) if process and process.pid else "-",
            slot.state if slot else "-",
            (slot.exit_server if slot else None) or "-",
            str(slot.exit_address) if slot and slot.exit_address else "-",
            f"{last.run} {last.loop} {'good' if last.ok else 'failed'}" if last else "-",
            f"{last.finished:%H:%M:%S}" if last else "-",
            f"{(last.finished - last.started).total_seconds():.1f}" if last else "-",
            str(last.network_changed) if last else "-",
        )


def summary(seen: FleetStatus) -> str:
    """The line above the table."""
    if seen.supervisor_pid is None:
        return "the fleet is not running"
    parts = [f"supervisord {seen.supervisor_pid}"]
    parts += [f"{item.name} {item.state}" for item in seen.programs if not item.name.startswith("worker:")]
    if seen.netctl is not None:
        parts.append(f"WireGuard: {seen.netctl.backend}")
        pool, trouble = seen.netctl.pool, seen.netctl.pool_trouble
        if pool is not None:
            parts.append(f"keys: {pool.leased} leased, {pool.free} free, {pool.cooling} cooling of {pool.keys}")
        elif trouble:
            parts.append(f"keys: {trouble}")
        if seen.netctl.turns is not None:
            parts.append(str(seen.netctl.turns))
    if unreadable := [text for worker in seen.workers for text in worker.unreadable]:
        parts.append(f"{len(unreadable)} files hold no result: {unreadable[0]}")
    if set_aside := [f"{worker.set_aside} of {worker.worker}" for worker in seen.workers if worker.set_aside]:
        parts.append(f"files set aside (*.bad), for they held no result: {', '.join(set_aside)}")
    return "; ".join(parts)


def netctl_status(paths: Paths) -> NetctlStatus:
    """What netctl says; raises Unavailable when it does not answer."""
    with Client(paths.netctl_socket, timeout_seconds=10) as client:
        return client.ask(Status(), NetctlStatus)
