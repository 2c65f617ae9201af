"""netctl's two sockets: what a caller is, and how much one caller may use.

Workers connect to the socket in a folder of group `fleet`. Operators have a second socket in a folder of their group
(`netctl.operator_group`). So neither can fill the other's queue, and the folders' modes keep everybody else out.
Both sockets serve the same table of requests (fleet.sockets.netctl_api).
"""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from fleet import log
from fleet.model import HUB_ACCOUNT, Fleet, Paths
from fleet.sockets import acts_api, netctl_api
from fleet.sockets.callers import Caller, Limits, Peer, Rate, group_number
from fleet.sockets.rpc import Server, Service

_OF_THE_HUB = {
    netctl_api.ENDS_TUNNEL: acts_api.RATE,
    netctl_api.COUNTS_KEYS: Rate(per_second=1, burst=20),
}
MARGIN_SECONDS = 5.0
"""A request is cut off this long after its own deadline: by then something in netctl hangs."""


class Access:
    """What callers are to FLEET. The operators' group is looked up once: restart netctl after creating it."""

    def __init__(self, fleet: Fleet) -> None:
        first = fleet.workers.first_uid
        self._workers = range(first, first + fleet.workers.count)
        self._operators = group_number(fleet.netctl.operator_group)
        self._hub: int | None = None
        if fleet.hub.jobs != "none":
            with contextlib.suppress(KeyError):
                self._hub = pwd.getpwnam(HUB_ACCOUNT).pw_uid

    def caller(self, peer: Peer) -> Caller:
        """The kind of caller that PEER is: the first that matches, in this order."""
        if peer.uid in self._workers:
            return Caller.WORKER
        if peer.uid == 0:
            return Caller.ROOT
        if peer.uid == self._hub:
            return Caller.HUB
        if self._operators is not None and self._operators in peer.groups | {peer.gid}:
            return Caller.OPERATOR
        return Caller.STRANGER


def limits(fleet: Fleet) -> Limits:
    """What one caller may use, from the settings."""
    settings = fleet.netctl
    takes_key = Rate(per_second=settings.key_requests_per_second, burst=settings.key_requests_burst)
    return Limits(
        connections_per_uid=settings.connections_per_uid,
        connections_per_second=settings.connections_per_second,
        connections_burst=settings.connections_burst,
        requests_per_second=settings.requests_per_second,
        requests_burst=settings.requests_burst,
        rates={netctl_api.TAKES_KEY: takes_key, **_OF_THE_HUB},
        frame_seconds=settings.frame_seconds,
        request_seconds=settings.request_deadline_seconds + MARGIN_SECONDS,
    )


def server(fleet: Fleet, service: Service) -> Server:
    """The server of SERVICE, with FLEET's callers and limits."""
    return Server(netctl_api.TABLE, service, caller=Access(fleet).caller, limits=limits(fleet))


async def listen(made: Server, paths: Paths) -> None:
    """Open both sockets; the operators' only if `fleet up` found their group and made the folder.

    Raises ConfigurationError when another process serves the workers' socket.
    """
    folder = paths.netctl_operator_socket.parent
    if folder.is_dir():
        try:
            await made.start(paths.netctl_operator_socket)
        except OSError as error:
            # For example left by an earlier run, with another owner. The workers are served all the same.
            log.get("netctl").warning("operators.shut_out", folder=str(folder), error=str(error))
    await made.start(paths.netctl_socket)


def close(paths: Paths) -> None:
    """Remove the socket files."""
    for path in (paths.netctl_operator_socket, paths.netctl_socket):
        path.unlink(missing_ok=True)


def mine(paths: Paths) -> Path:
    """The socket this process may connect to; the workers' socket if neither: connecting to it gives the error."""
    operators = paths.netctl_operator_socket
    outside = not os.access(paths.netctl_socket.parent, os.X_OK)
    return operators if outside and os.access(operators.parent, os.X_OK) else paths.netctl_socket
