"""From which of the host's addresses each server is reached, as the host's routes have it now.

wireguard-go goes on from the address that it began with. Once the host has another one (DHCP, another uplink) the
kernel refuses what it sends: it counts nothing, and hears nothing. A new session begins from the address of now.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from fleet.errors import NoWay
from fleet.wire import Address
from netctl.plan.key import Endpoint
from netctl.pool.contract import Lease


def source(way: Endpoint) -> Address | None:
    """The host's address that is used towards WAY; None where it has no way there. Nothing is sent."""
    family = socket.AF_INET6 if ":" in way.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((way.host, way.port))
            return ip_address(asking.getsockname()[0])
    except OSError:
        return None


def passable(ways: list[Endpoint]) -> list[Endpoint]:
    """Those of WAYS that this host has a way to; raises NoWay where it has none to any."""
    found = [way for way in ways if source(way) is not None]
    if not found:
        raise NoWay(
            f"this host has no way to {', '.join(way.host for way in ways)}: no route, or no address of its own",
            hint=f"ip route get {ways[0].host}",
        )
    return found


class Sources:
    """From where each worker's lease was last known to work, by UID."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, Address]] = {}

    def moved(self, lease: Lease) -> Address | None:
        """The address that LEASE's server is reached from now, if it is another than before."""
        now, known = source(lease.endpoint), self._known.get(lease.uid)
        if now is None or known == (lease.id, now):
            return None
        if known is None or known[0] != lease.id:
            self.follow(lease, now)
            return None
        return now

    def follow(self, lease: Lease, now: Address) -> None:
        """LEASE's device sends from the address NOW."""
        self._known[lease.uid] = lease.id, now
