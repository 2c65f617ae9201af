"""The hub's socket: who a caller is, and what it may ask."""

from __future__ import annotations

import os

from fleet.model import Fleet
from fleet.sockets import hub_api
from fleet.sockets.callers import Caller, Limits, Peer
from fleet.sockets.rpc import Server, Service


def server(fleet: Fleet, service: Service) -> Server:
    """The server of SERVICE for the workers of FLEET, root, and commands under the hub's own account."""
    workers, own = {worker.uid for worker in fleet.members}, os.getuid()

    def caller(peer: Peer) -> Caller:
        if peer.uid in workers:
            return Caller.WORKER
        if peer.uid == 0:
            return Caller.ROOT
        return Caller.OPERATOR if peer.uid == own else Caller.STRANGER

    return Server(hub_api.TABLE, service, caller=caller, limits=Limits())
