"""The host's source address for each worker's server, and whether it has changed.

wireguard-go keeps the source address that it started with. Once the host has another one (DHCP, another uplink), the
kernel refuses what it sends: its counters stop, and it receives nothing. A new session uses the new address.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.errors import NoWay
from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint
from netctl.pool.contract import Lease


class Sources:
    """The last known source address of each lease, by UID."""

    def __init__(self, source: Callable[[Endpoint], Address | None]) -> None:
        """SOURCE asks the kernel for the source address towards an endpoint (netctl.kernel.observe)."""
        self._source = source
        self._known: dict[int, tuple[str, Address]] = {}

    def passable(self, ways: list[Endpoint]) -> list[Endpoint]:
        """Those of WAYS that this host has a route to; raises NoWay where there is none."""
        found = [way for way in ways if self._source(way) is not None]
        if not found:
            raise _no_way(ways)
        return found

    def require(self, lease: Lease) -> None:
        """Raises NoWay where this host has no route to LEASE's server now."""
        if self.lost(lease):
            raise _no_way([lease.endpoint])

    def lost(self, lease: Lease) -> bool:
        """Whether this host has no route to LEASE's server now."""
        return self._source(lease.endpoint) is None

    def moved(self, lease: Lease) -> Address | None:
        """The address from which LEASE's server is reached now, if it has changed; else None."""
        now, known = self._source(lease.endpoint), self._known.get(lease.uid)
        if now is None or known == (lease.id, now):
            return None
        if known is None or known[0] != lease.id:
            self.follow(lease, now)
            return None
        return now

    def follow(self, lease: Lease, now: Address) -> None:
        """Record that LEASE's device sends from the address NOW."""
        self._known[lease.uid] = lease.id, now


def _no_way(ways: list[Endpoint]) -> NoWay:
    return NoWay(
        f"this host has no way to {', '.join(way.host for way in ways)}: no route, or no address of its own",
        hint=f"ip route get {ways[0].host}",
    )
