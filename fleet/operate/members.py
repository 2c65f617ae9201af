"""Adds and removes workers while the others go on: what `fleet reload` does about workers.count.

    UIDs, accounts, folders, keys -> leaving workers end their loops and all their processes -> snapshot,
            supervisord.conf -> restart netctl, acts and hub -> start joining workers

The restart of netctl is like that after a crash: tunnels in use go on meanwhile, and workers ask for the same lease
again. At its start netctl removes the kernel objects of former workers; until then their UIDs stay blocked. Joining
workers start after it, so that none runs before its UID is blocked. If reload is killed half way, the next starts over.
"""

from __future__ import annotations

from fleet import snapshot, status
from fleet.errors import Unavailable
from fleet.isolation import UID
from fleet.machine.files import write_durably
from fleet.model import Fleet, Worker
from fleet.operate import accounts, folders, lifecycle, prepare
from fleet.operate.render import supervisord_conf
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from fleet.supervise import Supervisor, wait_until
from fleet.terminal import console

_KNOWING = ("acts", "hub")
"""Programs beside netctl that read the list of workers at their start."""
_END_SECONDS = 25.0
_ANSWER_SECONDS = 60.0


class Members:
    """Compares the workers that supervisord has with those of FLEET, and changes supervisord's."""

    def __init__(self, fleet: Fleet, installation: Installation) -> None:
        self._fleet, self._installation = fleet, installation
        self._supervisor = Supervisor(installation)
        states = {one.name: one for one in self._supervisor.states()}
        known = {int(name.removeprefix("worker:w")) for name in states if name.startswith("worker:w")}
        wanted = {worker.uid for worker in fleet.members}
        self.leaving = tuple(Worker(uid=uid) for uid in sorted(known - wanted))
        self.joining = tuple(Worker(uid=uid) for uid in sorted(wanted - known))
        self._knowing = [one for one in _KNOWING if one in states and states[one].pid]
        self.differ = bool(self.leaving or self.joining) or not states["netctl"].pid

    def prepare(self) -> None:
        """Do what joining workers need and what may fail; changes nothing for the others."""
        prepare.uids_are_free(self._fleet, self._installation)
        prepare.enough_keys(self._fleet, self._installation)
        accounts.ensure(self._fleet)
        for folder in folders.wanted(self._fleet, self._installation.paths):
            folders.make(folder)

    def change(self, settings: Snapshot) -> None:
        """Give supervisord, netctl and hub the workers of SETTINGS. Raises TryLater if a leaving one does not end."""
        paths = self._installation.paths
        lifecycle.sweep(paths, {worker.uid for worker in self.leaving})
        backend = prepare.probe(self._fleet, self._installation)
        text = supervisord_conf(self._fleet, self._installation, backend)
        snapshot.write(settings, paths)
        prepare.workers(self._installation)
        prepare.namespaces(self._fleet, paths)
        write_durably(paths.supervisor_config, text.encode(), 0o600)
        self._netctl_again(tunnels=bool(backend.program))
        for program in self._knowing:
            self._supervisor.stop_program(program, _END_SECONDS)
            self._supervisor.start_program(program)
        if self._fleet.walls is UID and self.joining:
            why = self._supervisor.keep_ports(self.joining[0].uid, self.joining[-1].uid)
            if why:
                console.say(f"fleet: WARNING: the browsers' ports of new workers are not reserved for them: {why}")
        self._supervisor.update("worker")
        for worker in self.leaving:
            paths.launch_spec(worker).unlink(missing_ok=True)

    def _netctl_again(self, *, tunnels: bool) -> None:
        self._supervisor.stop_program("netctl", _END_SECONDS)
        try:
            if tunnels:
                for worker in self.leaving:
                    self._supervisor.stop_program(f"wg:{worker.interface}", _END_SECONDS)
                self._supervisor.update("wg")
        finally:
            self._supervisor.start_program("netctl")
        names = {worker.name for worker in self._fleet.members}
        wait_until(lambda: self._slots() == names, _ANSWER_SECONDS, lambda: f"netctl has {sorted(self._slots())}")

    def _slots(self) -> set[str]:
        try:
            return {slot.worker for slot in status.netctl_status(self._installation.paths).slots}
        except Unavailable:
            return set()
