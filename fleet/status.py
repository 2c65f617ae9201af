"""The whole fleet as it is at one moment; every view shows this one value."""

from __future__ import annotations

from pydantic import BaseModel

from fleet.errors import Unavailable
from fleet.model import Paths, Worker
from fleet.programs import Installation
from fleet.result import Result
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import NetctlStatus, SlotStatus, Status
from fleet.spool import newest
from fleet.supervise import ProgramState, Supervisor


class WorkerStatus(BaseModel, frozen=True):
    """One worker, seen from three sides."""

    worker: str
    process: ProgramState | None
    slot: SlotStatus | None
    last: Result | None
    last_failed: Result | None = None
    """The youngest that is not good, of those that were counted."""
    good: int = 0
    """Of the youngest results, fleet.spool.RECENT at most."""
    failed: int = 0
    unreadable: tuple[str, ...] = ()
    """What lies in its spool instead of a younger result, and why that is none."""
    attempt_failed: str | None = None
    """Why its last attempt failed, where nothing has come of it since: the words of its own log."""
    set_aside: int = 0
    """Files in its spool that held no result and that it has renamed to `*.bad`."""


class FleetStatus(BaseModel, frozen=True):
    """Everything that can be known from outside at one moment."""

    supervisor_pid: int | None
    programs: tuple[ProgramState, ...]
    netctl: NetctlStatus | None
    workers: tuple[WorkerStatus, ...]


def take(members: tuple[Worker, ...], installation: Installation) -> FleetStatus:
    """Ask supervisord, netctl and the spools; a side that does not answer is None or empty."""
    supervisor = Supervisor(installation)
    pid = supervisor.pid()
    programs = supervisor.states_or_none() if pid is not None else ()
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
            last_failed=next((result for result in spool.recent if not result.ok), None),
            good=sum(result.ok for result in spool.recent),
            failed=sum(not result.ok for result in spool.recent),
            unreadable=tuple(one.why for one in spool.unreadable),
            set_aside=spool.set_aside,
        )

    return FleetStatus(
        supervisor_pid=pid, programs=programs, netctl=netctl, workers=tuple(one(worker) for worker in members)
    )


def netctl_status(paths: Paths) -> NetctlStatus:
    """What netctl says; raises Unavailable when it does not answer."""
    with Client(paths.netctl_socket, timeout_seconds=10) as client:
        return client.ask(Status(), NetctlStatus)
