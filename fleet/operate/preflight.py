"""What would go wrong minutes later, said before anything starts: UIDs in use, too few keys, an unfit machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil

from fleet import cgroups, console
from fleet.errors import AccountTaken, NoKeyFree
from fleet.model import Fleet
from fleet.operate.doctor import examine
from fleet.operate.doctor.machine import Case, Machine
from fleet.programs import Installation, call

_LIST_SECONDS = 30.0


def uids_are_free(fleet: Fleet, installation: Installation) -> None:
    """Raises AccountTaken, naming processes, when a worker's UID is at work for somebody else.

    The launcher kills whatever a worker's UID still runs. What an earlier life of this very fleet left
    behind is its to kill (its environment names our FLEET_ROOT); another fleet's workers are not.
    """
    strangers = list(_strangers(fleet, str(installation.paths.root)))
    if strangers:
        raise AccountTaken(
            "\n".join(strangers), hint="stop that fleet (fleet down), or change workers.first_uid in fleet.toml"
        )


def _strangers(fleet: Fleet, root: str) -> Iterator[str]:
    members = {worker.uid: worker for worker in fleet.members}
    for process in psutil.process_iter(["uids", "name", "status"]):
        uids = process.info["uids"]
        worker = members.get(uids.real) if uids else None
        if worker is None or process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        try:
            place = process.environ().get("FLEET_ROOT")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        # A browser's helpers clear their environment; they end with the worker they belong to.
        if place is not None and place != root:
            name, pid = process.info["name"], process.pid
            yield f"UID {worker.uid} of {worker.name} is in use by process {pid} ({name}) of the fleet in {place}"


def enough_keys(fleet: Fleet, installation: Installation) -> None:
    """Raises NoKeyFree when the pool has fewer keys than the fleet has workers: some would wait for ever."""
    text = call(installation.netctl("keys", "list", "--json"), installation.environment, deadline_seconds=_LIST_SECONDS)
    keys, workers = len(json.loads(text)), len(fleet.members)
    if keys < workers:
        raise NoKeyFree(
            f"the key pool has {keys} keys for {workers} workers",
            hint="import your provider's WireGuard files: netctl keys import PATH...",
            data={"keys": keys, "workers": workers},
        )


def divide_memory(fleet: Fleet, proc: Path = Path("/proc/self")) -> None:
    """Each worker gets a control group where that can be had; where a limit of memory needs one, its lack is said."""
    try:
        group = cgroups.own(proc)
        divided, reason = group is not None and cgroups.divide(group), "this fleet has no control group to divide"
    except OSError as error:
        divided, reason = False, str(error)
    if fleet.workers.memory_mebibytes and not divided:
        console.say(
            f"fleet: WARNING: workers.memory_mebibytes has no effect: {reason}; "
            "what to do: start it as a systemd service (deploy/fleet.service), on a host with cgroup v2"
        )


def forewarn(fleet: Fleet, installation: Installation, machine: Machine | None = None) -> None:
    """Say what the doctor's quick checks call an error, and go on: the machine may know a way they do not.

    And say, each time, that Chrome's sandbox is off where it is.
    """
    if not fleet.browser.sandbox:
        console.say(
            "fleet: WARNING: browser.sandbox is false: a page that breaks out of Chrome has all that its worker has; "
            "what to do: take browser.sandbox out of fleet.toml"
        )
    case = Case(machine=machine or Machine(), fleet=fleet, installation=installation, processes=())
    for finding in examine.at_start(case):
        console.say(f"fleet doctor: {finding.name}: {finding.seen}; what to do: {finding.command}")
