"""From which of the host's addresses each worker's server is reached, and whether that is another one now.

wireguard-go goes on from the address that it began with. Once the host has another one (DHCP, another uplink) the
kernel refuses what it sends: it counts nothing, and hears nothing. A new session begins from the address of now.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.errors import NoWay
from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint
from netctl.pool.contract import Lease


class Sources:
    """What was last known of each lease, by UID."""

    def __init__(self, source: Callable[[Endpoint], Address | None]) -> None:
        """SOURCE asks the kernel (netctl.kernel.observe)."""
        self._source = source
        self._known: dict[int, tuple[str, Address]] = {}

    def passable(self, ways: list[Endpoint]) -> list[Endpoint]:
        """Those of WAYS that this host has a way to; raises NoWay where it has none to any."""
        found = [way for way in ways if self._source(way) is not None]
        if not found:
            raise _no_way(ways)
        return found

    def require(self, lease: Lease) -> None:
        """Raises NoWay where this host has none to LEASE's server now."""
        if self.lost(lease):
            raise _no_way([lease.endpoint])

    def lost(self, lease: Lease) -> bool:
        """Whether this host has no way to LEASE's server now."""
        return self._source(lease.endpoint) is None

    def moved(self, lease: Lease) -> Address | None:
        """The address that LEASE's server is reached from now, if it is another than before."""
        now, known = self._source(lease.endpoint), self._known.get(lease.uid)
        if now is None or known == (lease.id, now):
            return None
        if known is None or known[0] != lease.id:
            self.follow(lease, now)
            return None
        return now

    def follow(self, lease: Lease, now: Address) -> None:
        """LEASE's device sends from the address NOW."""
        self._known[lease.uid] = lease.id, now


def _no_way(ways: list[Endpoint]) -> NoWay:
    return NoWay(
        f"this host has no way to {', '.join(way.host for way in ways)}: no route, or no address of its own",
        hint=f"ip route get {ways[0].host}",
    )
