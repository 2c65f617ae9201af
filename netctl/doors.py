"""netctl's server and the two doors it is reached through: one for the workers, one for the operators."""

from __future__ import annotations

import os
from pathlib import Path

from fleet import log
from fleet.model import Fleet, Paths
from fleet.rpc import Server, Service
from netctl.access import Access, limits


def server(fleet: Fleet, service: Service) -> Server:
    """SERVICE behind FLEET's permission table and limits."""
    access = Access(fleet)
    return Server(
        service=service, permission=access.allows, admission=access.admits, limits=limits(fleet), program="netctl"
    )


async def listen(made: Server, paths: Paths) -> None:
    """Open the doors. The operators' opens where `fleet up` found their group and made its folder.

    Raises ConfigurationError when somebody else serves the workers'.
    """
    folder = paths.netctl_operator_socket.parent
    if folder.is_dir():
        try:
            await made.start(paths.netctl_operator_socket)
        except OSError as error:
            # Left by an earlier life, with another owner: the workers need not suffer from it.
            log.get("netctl").warning("operators.shut_out", folder=str(folder), error=str(error))
    await made.start(paths.netctl_socket)


def close(paths: Paths) -> None:
    """Take the sockets' files away."""
    for path in (paths.netctl_operator_socket, paths.netctl_socket):
        path.unlink(missing_ok=True)


def mine(paths: Paths) -> Path:
    """The door this process may come in through; the workers' when it may through none, to be told so there."""
    operators = paths.netctl_operator_socket
    outside = not os.access(paths.netctl_socket.parent, os.X_OK)
    return operators if outside and os.access(operators.parent, os.X_OK) else paths.netctl_socket
