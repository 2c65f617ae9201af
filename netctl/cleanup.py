"""`netctl plan` and `netctl cleanup`: the same path as serve, without serving."""

from __future__ import annotations

from fleet.model import Fleet, Paths
from netctl import keys, owners, pool, wireguard
from netctl import plan as planning
from netctl.kernel import Kernel
from netctl.plan import Operation
from netctl.reconcile import Reconciler
from netctl.serve import sole
from netctl.state import Held, State


async def plan(fleet: Fleet, paths: Paths) -> tuple[Operation, ...]:
    """What `serve` would do now, were it started. Changes nothing; raises ForeignObject."""
    held: dict[int, Held] = {}
    if paths.key_store.exists():
        with pool.opened(paths) as store:
            held = {lease.uid: _as_held(lease) for lease in store.held() if owners.alive(lease.owner)}
    members = {worker.uid for worker in fleet.members}
    backend = await wireguard.probe(fleet.wireguard.backend)
    async with Kernel(backend, fleet) as kernel:
        reconciler = Reconciler(fleet, kernel)
        try:
            return await reconciler.plan({uid: one for uid, one in held.items() if uid in members})
        finally:
            reconciler.close()


async def cleanup(fleet: Fleet, paths: Paths, *, dry_run: bool = False) -> tuple[Operation, ...]:
    """Remove everything of ours, give every key back; what was done, or with DRY_RUN what would be.

    Raises ConfigurationError while netctl runs. Foreign objects are left as they are. The values of
    rp_filter that were raised when `all` was lowered stay: they filter as before.
    """
    with sole(paths):
        backend = await wireguard.probe(fleet.wireguard.backend)
        async with Kernel(backend, fleet) as kernel:
            found = (await kernel.observe()).state
            operations = planning.diff(State(), found)
            if dry_run:
                return operations
            await kernel.apply(operations)
        if paths.key_store.exists():
            with pool.opened(paths) as store:
                for lease in store.held():
                    store.end(lease.uid)
                for uid in store.unfinished():
                    store.ended(uid)
    return operations


def _as_held(lease: keys.Lease) -> Held:
    return Held(key=lease.key, endpoint=lease.endpoint, open=True)
