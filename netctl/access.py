"""Who may ask for what: one table. Authority is who calls, as the kernel says, never what is sent."""

from __future__ import annotations

from collections.abc import Callable

from fleet import wire
from fleet.model import Fleet
from fleet.rpc import Peer, Permission, Verdict

Who = Callable[[Fleet, Peer], bool]


def _worker(fleet: Fleet, peer: Peer) -> bool:
    return fleet.workers.first_uid <= peer.uid < fleet.workers.first_uid + fleet.workers.count


def _worker_or_root(fleet: Fleet, peer: Peer) -> bool:
    return peer.uid == 0 or _worker(fleet, peer)


TABLE: dict[type[wire.Request], tuple[Who, str]] = {
    # A worker acts on the slot of its own UID; no request can name another.
    wire.Connect: (_worker, "a worker of this fleet"),
    wire.Rotate: (_worker, "a worker of this fleet"),
    wire.Proved: (_worker, "a worker of this fleet"),
    wire.Status: (_worker_or_root, "a worker of this fleet or root"),
}


def permission(fleet: Fleet) -> Permission:
    """The permission function of a server for FLEET; what is not in the table is refused."""

    def decide(peer: Peer, request: wire.Request) -> Verdict:
        row = TABLE.get(type(request))
        if row is None:
            return Verdict(allowed=False, reason=f"{request.method} is nobody's to ask")
        who, text = row
        allowed = who(fleet, peer)
        return Verdict(allowed=allowed, reason=f"{request.method} is for {text}, and this is UID {peer.uid}")

    return decide
