"""Resolves the names of servers: providers use names, and their addresses change."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from fleet.client_files.sections import address_in
from fleet.errors import ServerNotFound
from fleet.sockets.deadline import within
from netctl.plan.key import Endpoint

RESOLVE_SECONDS = 5.0
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_FAIL)


async def resolved(ways: Sequence[Endpoint]) -> list[Endpoint]:
    """All addresses of the endpoints WAYS, in their order; raises ServerNotFound where none of their names has one."""
    if all(address_in(way.host) for way in ways):
        return [*ways]
    asked = await asyncio.gather(*map(_addresses, ways), return_exceptions=True)
    found = dict.fromkeys(one for some in asked if not isinstance(some, BaseException) for one in some)
    if not found:
        raise next(one for one in asked if isinstance(one, BaseException))
    return [*found]


async def _addresses(way: Endpoint) -> list[Endpoint]:
    if address_in(way.host):
        return [way]
    # AI_ADDRCONFIG: no addresses of a family that this host has no address of, as it could not send there.
    asked = asyncio.get_running_loop().getaddrinfo(
        way.host, way.port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG
    )
    try:
        found = await within(RESOLVE_SECONDS, asked)
    except UnicodeError:
        raise ServerNotFound(f"the server's name {way.host} is not a valid name", hint="correct its file") from None
    except (OSError, asyncio.TimeoutError) as error:
        if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
            raise ServerNotFound(
                f"the server's name {way.host} has no address", hint="its file may be old: import a new one"
            ) from None
        raise ServerNotFound(
            f"no resolver of this host has answered for the server {way.host}", hint="does DNS work on this host?"
        ) from None
    return [Endpoint(str(one[4][0]), way.port) for one in found]
