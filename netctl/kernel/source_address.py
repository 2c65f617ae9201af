"""From which of the host's addresses the kernel would send to a server."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint


def source(way: Endpoint) -> Address | None:
    """The host's address that is used towards WAY; None where it has no way there. Nothing is sent (connect(2))."""
    family = socket.AF_INET6 if ":" in way.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((way.host, way.port))
            return ip_address(asking.getsockname()[0])
    except OSError:
        return None
