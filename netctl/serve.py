"""The life of `netctl serve`: take the lock, read the kernel's state, adopt tunnels, then serve until told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fleet import log
from fleet.errors import ConfigurationError
from fleet.machine import lockfile
from fleet.model import Fleet, Paths
from fleet.programs import Installation
from fleet.sockets.listen import refuse_if_served
from fleet.sockets.rpc import asked_to_end
from netctl import access
from netctl.exits.judge import Judge
from netctl.exits.own import OwnAddresses
from netctl.exits.path import PathLook
from netctl.exits.probe import Probe
from netctl.filter.owned_table import OwnedTable
from netctl.host import Host
from netctl.kernel.setns import Spaces
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.service import NetctlService
from netctl.slots.devices import Devices
from netctl.slots.endings import Endings
from netctl.slots.links import Links
from netctl.slots.reconcile import Reconciler
from netctl.slots.recovery import Recovery
from netctl.slots.repair import Repair, background
from netctl.slots.rp_filter import FirstValues
from netctl.slots.tunnels import Tunnels
from netctl.supply import supplied
from netctl.wireguard.probe import probe

RARELY = 500
"""How many collections of the middle generation come before a full one; Python's default is 10."""


async def serve(fleet: Fleet, paths: Paths) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ForeignObject, ConfigurationError, MissingProgram; TryLater when another fleet runs in this namespace.
    """
    with sole(paths):
        pool = await ThreadedPool.open(partial(Store, paths.key_store), fleet.netctl.key_cooldown_seconds)
        spaces = Spaces(paths.spaces)
        wireguard = await probe(fleet.wireguard.backend, spaces)
        backend = wireguard.backend
        log.get("netctl").info("backend.chosen", backend=backend.name, setting=fleet.wireguard.backend)
        async with Host(wireguard, fleet, spaces, paths.root) as host:
            links, endings = Links(fleet, host), Endings(fleet, spaces)
            reconciler = Reconciler(fleet, backend, host, links, FirstValues(paths))
            devices = Devices(fleet, wireguard, host, links, reconciler)
            tunnels = Tunnels(fleet=fleet, pool=pool, reconciler=reconciler, devices=devices, endings=endings)
            looking = Probe(fleet.egress, Installation(paths=paths), spaces)
            own = OwnAddresses(fleet.egress, looking.in_the_clear)
            judge = Judge(fleet, pool, tunnels.interface, looking.through, own)
            path = PathLook(fleet, tunnels.servers, tunnels.interface, looking.through, devices.sources.require)
            service = NetctlService(fleet=fleet, pool=pool, tunnels=tunnels, backend=backend, judge=judge, path=path)
            recovery = Recovery(fleet, tunnels, devices, spaces)
            owned_table, changed = OwnedTable(paths.root), recovery.ways_changed
            repair = Repair(fleet, tunnels, reconciler, spaces, owned_table, ways_changed=changed)
            try:
                async with supplied(fleet, paths.keyservice_socket, pool, tunnels):
                    await _run(fleet, paths, service, repair, recovery)
            finally:
                repair.close()
                links.close()
                await judge.close()
                await endings.close()
                await pool.close()


@contextmanager
def sole(paths: Paths, *, make: bool = True) -> Iterator[None]:
    """Hold netctl's lock; raises ConfigurationError naming the process that has it.

    Without MAKE a missing lock file is not created and not held: created by root, it and its folder would be root's.
    """
    lock = paths.netctl_lock
    if not make and not lock.exists():
        yield
        return
    try:
        lock.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = lockfile.opened(lock, make=make)
    except OSError as error:
        raise ConfigurationError(
            f"{lock.parent} cannot be used: {error.strerror}", hint="fleet up makes it, with its owner"
        ) from error

    def busy(holder: str) -> ConfigurationError:
        return ConfigurationError(
            f"netctl is running already: process {holder} holds {lock}",
            hint="fleet down, or: fleet supervisorctl stop netctl",
        )

    with lockfile.held(descriptor, busy):
        refuse_if_served(paths.netctl_socket)
        yield


async def _run(fleet: Fleet, paths: Paths, service: NetctlService, repair: Repair, recovery: Recovery) -> None:
    logger = log.get("netctl")
    stop = asked_to_end()
    await repair.start()
    orphans = await service.tunnels.adopt()
    logger.info("netctl.adopted", slots=[slot.worker.name for slot in orphans])
    server = access.server(fleet, service)
    tasks = [background(repair.run()), background(recovery.tend())]
    tasks += [background(service.tunnels.expire(slot)) for slot in orphans]
    # The objects made at start-up stay: a full collection over them would take 50 ms, in the middle of a request.
    gc.collect()
    gc.freeze()
    # A full collection over connections and leases takes 12 to 40 ms, and would run every second under load.
    gc.set_threshold(*gc.get_threshold()[:2], RARELY)
    await access.listen(server, paths)
    logger.info("netctl.ready", socket=str(paths.netctl_socket), pid=os.getpid())
    await stop.wait()
    # Tunnels in use go on without netctl; the next netctl adopts them.
    service.stopping = True
    await server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    access.close(paths)
    logger.info("netctl.stopped")
