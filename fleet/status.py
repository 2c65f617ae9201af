"""The state of the whole fleet at one moment; every view shows this value."""

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
    """One worker, as seen by supervisord, by netctl and in its spool."""

    worker: str
    process: ProgramState | None
    slot: SlotStatus | None
    last: Result | None
    last_failed: Result | None = None
    """The newest that is not good, among those counted."""
    good: int = 0
    """Good results among the newest fleet.spool.RECENT."""
    failed: int = 0
    unreadable: tuple[str, ...] = ()
    """Files in its spool that are newer than the last result and hold none, each with the reason."""
    attempt_failed: str | None = None
    """Why its last attempt failed, from its own log; None when it has got further since."""
    set_aside: int = 0
    """Files in its spool that held no result and that the worker has renamed to `*.bad`."""


class FleetStatus(BaseModel, frozen=True):
    """Everything that is known about the fleet at one moment."""

    supervisor_pid: int | None
    programs: tuple[ProgramState, ...]
    netctl: NetctlStatus | None
    workers: tuple[WorkerStatus, ...]


def take(members: tuple[Worker, ...], installation: Installation) -> FleetStatus:
    """Ask supervisord and netctl and read the spools; a source that does not answer yields None or nothing."""
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
    """netctl's status; raises Unavailable when it does not answer."""
    with Client(paths.netctl_socket, timeout_seconds=10) as client:
        return client.ask(Status(), NetctlStatus)
