"""Who may ask for what: one table. Authority is who calls, as the kernel says, never what is sent.

    root       UID 0
    worker     a UID of this fleet's range; whatever groups it is in, it is nothing more
    operator   any other UID whose process is in the operators' group (`netctl.operator_group`)
    stranger   everybody else: one line of refusal

Workers come in through the socket's folder of group `fleet`. Operators have a door of their own, a second
socket in a folder of their group: neither can fill the other's queue, and strangers are kept from both
by the folders' modes. The table is asked at either door alike.
"""

from __future__ import annotations

import enum

from fleet import wire
from fleet.callers import group_number
from fleet.model import Fleet
from fleet.rpc import Limits, Peer, Permission, Verdict


class Caller(enum.Enum):
    """What a caller is to this fleet."""

    ROOT = "root"
    WORKER = "a worker of this fleet"
    OPERATOR = "an operator"
    STRANGER = "anybody"


TABLE: dict[type[wire.Request], frozenset[Caller]] = {
    # A worker acts on the slot of its own UID; no request can name another.
    wire.Connect: frozenset({Caller.WORKER}),
    wire.Rotate: frozenset({Caller.WORKER}),
    wire.Proved: frozenset({Caller.WORKER}),
    # Of its own slot for a worker, of everything for the others; never a key.
    wire.Status: frozenset({Caller.WORKER, Caller.ROOT, Caller.OPERATOR}),
}
MARGIN_SECONDS = 5.0
"""A request is cut off this long behind its own deadline: by then something of ours hangs."""


class Access:
    """The table, for one FLEET. The operators' group is looked up once: who makes it later starts netctl again."""

    def __init__(self, fleet: Fleet) -> None:
        first = fleet.workers.first_uid
        self._workers = range(first, first + fleet.workers.count)
        self._operators = group_number(fleet.netctl.operator_group)

    def caller(self, peer: Peer) -> Caller:
        """What PEER is; the first that fits, in this order."""
        if peer.uid in self._workers:
            return Caller.WORKER
        if peer.uid == 0:
            return Caller.ROOT
        if self._operators is not None and self._operators in peer.groups | {peer.gid}:
            return Caller.OPERATOR
        return Caller.STRANGER

    def admits(self, peer: Peer) -> Verdict:
        """Whether PEER may connect: whoever may ask for anything."""
        known = self.caller(peer) is not Caller.STRANGER
        return Verdict(allowed=known, reason=f"netctl serves this fleet's workers and operators, not UID {peer.uid}")

    def allows(self, peer: Peer, request: wire.Request) -> Verdict:
        """Whether PEER may ask for REQUEST; what is not in the table is refused."""
        allowed = TABLE.get(type(request), frozenset())
        text = " or ".join(sorted(caller.value for caller in allowed)) or "nobody"
        reason = f"{request.method} is for {text}, and this is UID {peer.uid}"
        return Verdict(allowed=self.caller(peer) in allowed, reason=reason)


def permission(fleet: Fleet) -> Permission:
    """The permission function of a server for FLEET."""
    return Access(fleet).allows


def limits(fleet: Fleet) -> Limits:
    """What one caller may use, from the settings."""
    settings = fleet.netctl
    return Limits(
        connections_per_uid=settings.connections_per_uid,
        connections_per_second=settings.connections_per_second,
        connections_burst=settings.connections_burst,
        requests_per_second=settings.requests_per_second,
        requests_burst=settings.requests_burst,
        key_requests_per_second=settings.key_requests_per_second,
        key_requests_burst=settings.key_requests_burst,
        frame_seconds=settings.frame_seconds,
        request_seconds=settings.request_deadline_seconds + MARGIN_SECONDS,
    )
