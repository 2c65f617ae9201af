"""Everything that is prepared before anything starts, in order: each step needs the one before it.

    no other placeholders -> the doctor's quick checks -> free UIDs -> accounts -> folders
        -> backend (netctl's probe) -> snapshot -> enough keys -> tunnels' needs -> namespaces -> the hub's database
        -> launch specs -> supervisord.conf

Every step is idempotent, so a second run repairs, and a run that failed half way can be repeated.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path

from fleet import log, snapshot
from fleet.backends import BACKENDS, Backend
from fleet.errors import ConfigurationError, FleetError, NoKeyFree
from fleet.isolation import HOST
from fleet.machine import cgroups, spaces
from fleet.machine.files import write_durably
from fleet.model import Fleet, Paths
from fleet.operate import accounts, folders
from fleet.operate.doctor import examine
from fleet.operate.doctor.machine import Case, Machine
from fleet.operate.render import supervisord_conf
from fleet.operate.tasks import declared
from fleet.programs import Installation, call
from fleet.snapshot import Snapshot
from fleet.terminal import console

_SECONDS = 120.0
"""Deadline of each program: long enough for one that is only slow on a busy host."""
_log = log.get("fleet")


def everything(fleet: Fleet, installation: Installation, *, start_workers: bool = True) -> str:
    """Do all steps; returns the text of the supervisord.conf that was written."""
    paths = installation.paths
    same_placeholders(fleet, installation)
    forewarn(fleet, installation)
    divide_memory(fleet)
    uids_are_free(fleet, installation)
    accounts.ensure(fleet)
    for folder in folders.wanted(fleet, paths):
        folders.make(folder)
    folders.netctl_lock(paths)
    backend = probe(fleet, installation)
    takes = declared(fleet, installation) if fleet.hub.jobs != "none" else {}
    snapshot.write(Snapshot(release=installation.release, fleet=fleet, tasks=takes), paths)
    enough_keys(fleet, installation)
    folders.prepare_backend(backend)
    namespaces(fleet, paths)
    tables(fleet, installation)
    if fleet.keys.source is not None:
        call(installation.keyservice("check"), installation.environment, deadline_seconds=_SECONDS)
    workers(installation)
    text = supervisord_conf(fleet, installation, backend, start_workers=start_workers)
    write_durably(paths.supervisor_config, text.encode(), 0o600)
    return text


def workers(installation: Installation) -> None:
    """Write the launch specs of the snapshot's workers; raises FleetError for a mistake in the browser or the task."""
    call(installation.module("worker", "prepare"), installation.environment, deadline_seconds=_SECONDS)


def alone(installation: Installation) -> bool:
    """Whether rules of this fleet block its UIDs already.

    Raises TryLater when another fleet is in this network namespace, and names it: nothing here is ours to change.
    """
    command = installation.module("netctl", "alone", "--json")
    return bool(json.loads(call(command, installation.environment, deadline_seconds=_SECONDS))["held"])


def same_placeholders(fleet: Fleet, installation: Installation) -> None:
    """Remove what an earlier fleet with another placeholder range has left: netctl recognises only one range."""
    try:
        before = snapshot.last(installation.paths.snapshot)
    except ConfigurationError:  # another release's snapshot; that fleet is ended by `fleet down`
        return
    if before is not None and before.fleet.workers.placeholders != fleet.workers.placeholders:
        nothing_left(installation)


def uids_are_free(fleet: Fleet, installation: Installation) -> None:
    """Raises ConfigurationError, naming the processes, when another fleet uses a worker's UID.

    The launcher kills all other processes of a worker's UID: these are left-overs of this fleet. Only a process below a
    root's process of another fleet belongs to that fleet.
    """
    members, mine = {worker.uid for worker in fleet.members}, (None, str(installation.paths.root))
    others = [one.words for one in Machine().processes() if one.uid in members and one.fleet_root not in mine]
    if others:
        raise ConfigurationError(
            "\n".join(others),
            hint="FLEET_ROOT=... fleet down; two need a network namespace and UIDs (workers.first_uid) each",
        )


def enough_keys(fleet: Fleet, installation: Installation) -> None:
    """Raises NoKeyFree when the pool has fewer keys than the fleet has workers: some would wait forever.

    Raises ConfigurationError when a key's address is in workers.placeholders: netctl could not tell the two apart.
    """
    text = call(installation.netctl("keys", "list", "--json"), installation.environment, deadline_seconds=_SECONDS)
    usable = [line for line in json.loads(text) if line["state"] not in ("retired", "leaving")]
    network = fleet.workers.placeholders
    clashes = {line["origin"]: line["address"] for line in usable if line["address"]}
    clashes = {origin: address for origin, address in clashes.items() if IPv4Address(address) in network}
    if clashes:
        origin, address = next(iter(clashes.items()))
        others = f", and {len(clashes) - 1} more there" if len(clashes) > 1 else ""
        raise ConfigurationError(
            f"workers.placeholders: the key of {origin} has the address {address}, in {network}{others}",
            hint="another private network there, say 172.31.0.0/16; or: sudo netctl keys retire FILE...",
        )
    keys, workers = len({line["public_key"] for line in usable}), len(fleet.members)
    if keys < workers and fleet.keys.source is None:
        raise NoKeyFree(
            f"the key pool has {keys} keys for {workers} workers",
            hint="sudo netctl keys import FILE.conf..."
            + (f"; or start fewer: fleet up --workers {keys}, workers.count in fleet.toml" if keys else ""),
            data={"keys": keys, "workers": workers},
        )


def tables(fleet: Fleet, installation: Installation) -> None:
    """Where there are jobs, check the hub's database; a SQLite file is upgraded to this release, a shared one is not.

    Raises ConfigurationError, DatabaseFailed.
    """
    if fleet.hub.jobs != "none":
        command = installation.hub("db", "status" if fleet.hub.database else "upgrade")
        call(command, installation.environment, deadline_seconds=_SECONDS)


def divide_memory(fleet: Fleet, proc: Path = Path("/proc/self")) -> None:
    """Prepare control groups for the workers if possible; warn if not and workers.memory_mebibytes needs one."""
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
    """Print the errors of the doctor's quick checks and go on: the fleet may work all the same.

    Warn each time when Chrome's sandbox is off.
    """
    if not fleet.browser.sandbox:
        console.say(
            "fleet: WARNING: browser.sandbox is false: a page that breaks out of Chrome has all rights of its worker; "
            "what to do: take browser.sandbox out of fleet.toml"
        )
    case = Case(machine=machine or Machine(), fleet=fleet, installation=installation, processes=())
    for finding in examine.at_start(case):
        console.say(f"fleet doctor: {finding.name}: {finding.seen}; what to do: {finding.command}")


def namespaces(fleet: Fleet, paths: Paths) -> None:
    """Make each worker's network namespace if the isolation has one; remove former workers'. Raises FleetError."""
    wanted = {fleet.walls.space(worker) for worker in fleet.members} - {HOST}
    try:
        for name in spaces.names(paths.spaces) - wanted:
            spaces.remove(paths.spaces / name)
        for name in sorted(wanted):
            spaces.make(paths.spaces / name)
    except OSError as error:
        raise FleetError(
            f"no network namespaces can be made in {paths.spaces}: {error}",
            hint='isolation = "uid" in fleet.toml does without; in a container they need CAP_SYS_ADMIN',
        ) from None


def probe(fleet: Fleet, installation: Installation) -> Backend:
    """Which WireGuard netctl will use here: the one in the settings, or the one that netctl finds."""
    words = ("probe", "--backend", fleet.wireguard.backend, "--json")
    text = call(installation.netctl(*words), installation.environment, deadline_seconds=_SECONDS)
    backend = BACKENDS.get(json.loads(text).get("backend"))
    if backend is None:
        raise FleetError(f"netctl's probe names no backend: {text.strip()!r}")
    _log.debug("backend.chosen", backend=backend.name)
    return backend


def nothing_left(installation: Installation) -> None:
    """Remove everything of the fleet from the kernel, as root, because the key store is netctl's."""
    # pdeathsig: a clean-up that outlives its caller would block the next one.
    command = ["setpriv", "--pdeathsig=KILL", *installation.module("netctl", "cleanup")]
    call(command, installation.environment, deadline_seconds=_SECONDS)
