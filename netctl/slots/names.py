"""Servers that a key's file names: providers name them, and names move."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

from fleet.deadline import within
from fleet.errors import TunnelError
from netctl.plan.key import Endpoint

RESOLVE_SECONDS = 5.0


async def resolved(endpoint: Endpoint) -> Endpoint:
    """ENDPOINT with its server's address; raises TunnelError where its name has none."""
    try:
        ip_address(endpoint.host)
        return endpoint
    except ValueError:
        pass
    asked = asyncio.get_running_loop().getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    try:
        found = await within(RESOLVE_SECONDS, asked)
    except (OSError, UnicodeError, asyncio.TimeoutError):
        raise TunnelError(f"the server's name {endpoint.host} has no address", hint="does DNS work?") from None
    return Endpoint(str(found[0][4][0]), endpoint.port)
