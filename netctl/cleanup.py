"""`netctl plan` and `netctl cleanup`: they use the same code as serve, without serving."""

from __future__ import annotations

import contextlib

from fleet.errors import FleetError
from fleet.machine import processes
from fleet.model import Fleet, Paths, Worker
from netctl.filter.owned_table import OwnedTable, refuse_another
from netctl.host import Host
from netctl.kernel.setns import Spaces
from netctl.plan import diff as planning
from netctl.plan.desired import Held
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.pool import commands
from netctl.serve import sole
from netctl.slots.links import Links
from netctl.slots.reconcile import Reconciler
from netctl.slots.rp_filter import FirstValues
from netctl.wireguard.probe import probe


async def plan(fleet: Fleet, paths: Paths) -> tuple[Operation, ...]:
    """What `serve` would change if it were started now. Changes nothing; raises ForeignObject."""
    held: dict[int, Held] = {}
    if paths.key_store.exists():
        with commands.opened(paths) as store:
            cut_off = store.unfinished()
            held = {
                lease.uid: Held(key=lease.key, endpoint=lease.endpoint, open=True, generation=lease.generation)
                for lease in store.held()
                if processes.alive(lease.owner) and lease.uid not in cut_off
            }
    members = {worker.uid for worker in fleet.members}
    spaces = Spaces(paths.spaces)
    wireguard = await probe(fleet.wireguard.backend, spaces)
    async with Host(wireguard, fleet, spaces) as host:
        reconciler = Reconciler(fleet, wireguard.backend, host, Links(fleet, host))
        return await reconciler.plan({uid: one for uid, one in held.items() if uid in members})


async def cleanup(
    paths: Paths, *, worker: Worker | None = None, dry_run: bool = False
) -> tuple[tuple[Operation, ...], FleetError | None]:
    """Remove the fleet's objects and return its keys to the pool; only those of WORKER if given. DRY_RUN: only report.

    Returns what was done (DRY_RUN: would be), and the error if the leases could not be ended; the kernel is clean
    all the same.

    The fleet's objects are known by their marks, so no configuration and no daemon is needed. Raises ConfigurationError
    while netctl runs, TryLater while another fleet runs in this namespace. Foreign objects are left as they are.
    """
    refuse_another(paths.root)
    with sole(paths, make=False), contextlib.closing(OwnedTable(paths.root)) as lock:
        if not dry_run:
            await lock.make(None)  # no other fleet starts meanwhile
        # No WireGuard backend is needed: a device is removed with its link.
        async with Host(None, None, Spaces(paths.spaces)) as host:
            found = (await host.observe()).state
            first_values = FirstValues(paths)
            operations = planning.diff(State(), found if worker is None else found.of_worker(worker))
            operations += tuple(first_values.restored(found)) if worker is None else ()
            if dry_run:
                return operations, None
            await host.apply(operations)
            if worker is None:
                first_values.forget()
        return operations, _end_leases(paths, worker)


def _end_leases(paths: Paths, worker: Worker | None) -> FleetError | None:
    """Return every key (of WORKER, if given) to the pool; the error if the store cannot be used, else None."""
    if not paths.key_store.exists():
        return None
    try:
        with commands.opened(paths) as store:
            for uid in {*(lease.uid for lease in store.held()), *store.unfinished()}:
                if worker is None or worker.uid == uid:
                    store.ending(uid)
                    store.ended([(uid, None)])
    except FleetError as error:
        return error
    return None
