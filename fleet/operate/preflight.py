"""What would go wrong minutes later, said before anything starts: UIDs in use, too few keys, an unfit machine."""

from __future__ import annotations

import json
from pathlib import Path

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
    members, mine = {worker.uid for worker in fleet.members}, (None, str(installation.paths.root))
    others = [one.words for one in Machine().processes() if one.uid in members and one.fleet_root not in mine]
    if others:
        raise AccountTaken(
            "\n".join(others), hint="stop that fleet (fleet down), or change workers.first_uid in fleet.toml"
        )


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
