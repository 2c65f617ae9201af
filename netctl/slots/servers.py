"""What netctl knows about the VPN servers: which answer, which are put aside, and what to try next."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from netctl.plan.key import LEAST_IPV6_BYTES, Endpoint
from netctl.pool.contract import Lease, WholeKey
from netctl.slots.health import Aside, Step, next_step
from netctl.slots.slot import Slot

LATELY_SECONDS = 30.0
"""A server that has answered another slot within this time is working."""
NARROW_SECONDS = 86_400.0
"""How long a path that was found narrow counts as narrow: it may change."""


class Servers:
    """Servers by name, and keys, for all slots. Times are monotonic."""

    def __init__(self, mtu_bytes: int = LEAST_IPV6_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        """MTU_BYTES is the MTU in the settings."""
        self._mtu_bytes, self._clock = mtu_bytes, clock
        self._aside = Aside()
        self._heard: dict[str, dict[int, float]] = {}
        self._good: dict[str, Endpoint] = {}
        """The endpoint at which each server answered last."""
        self._narrow: dict[str, tuple[int, float]] = {}
        """By server: the largest packet that a tunnel to it carries (bytes), and until when that counts."""

    def answered(self, slot: Slot, lease: Lease) -> None:
        """Record that LEASE's server has just answered SLOT."""
        self._heard.setdefault(lease.key.server, {})[slot.worker.uid] = self._clock()
        self._good[lease.key.server] = lease.endpoint
        self._aside.worked(lease.key.server)
        self._aside.worked(lease.key_id)
        self._aside.worked(WholeKey(lease.public))

    def in_turn(self, lease: Lease, ways: Sequence[Endpoint]) -> list[Endpoint]:
        """The endpoints WAYS of LEASE's server; the one that answered last comes first."""
        return sorted(ways, key=lambda way: way != self._good.get(lease.key.server))

    def narrow(self, server: str, most_bytes: int) -> None:
        """Record that a tunnel to SERVER carries packets of at most MOST_BYTES (netctl.exits.path)."""
        self._narrow[server] = most_bytes, self._clock() + NARROW_SECONDS

    def fitted(self, lease: Lease) -> Lease:
        """LEASE with an MTU that its path carries; without IPv6 where that is less than IPv6 needs.

        If the paths to two servers are narrow, the host's uplink is: then this applies to all servers.
        """
        known = {server: most for server, (most, until) in self._narrow.items() if until > self._clock()}
        key, other = lease.key, max(known.values()) if len(known) > 1 else None
        most = known.get(key.server, other)
        if self._mtu_bytes < LEAST_IPV6_BYTES:
            most = min(most or self._mtu_bytes, self._mtu_bytes)
        if most is None or (key.mtu_bytes is not None and key.mtu_bytes <= most):
            return lease
        v6 = key.address_v6 if most >= LEAST_IPV6_BYTES else None
        return replace(lease, key=replace(key, mtu_bytes=most, address_v6=v6))

    def silent(self, slot: Slot, lease: Lease, failed: list[str]) -> Step:
        """LEASE's server, the last of FAILED, did not answer SLOT: put the key aside, and the server unless it answers
        other slots; returns the next step."""
        now, working = self._clock(), self.working(slot)
        step = next_step(failed, working)
        # The key is put aside at all its servers: else a revoked key would be tried at each, and have each put aside.
        self._aside.failed(WholeKey(lease.public), now)
        if lease.key.server not in working:
            self._aside.failed(lease.key.server, now)
        return step

    def not_found(self, lease: Lease) -> None:
        """Put LEASE's server aside: its name has no address, so no key of it can be used."""
        self._aside.failed(lease.key.server, self._clock())

    def failed(self, lease: Lease) -> None:
        """Put LEASE's key at this server aside: it cannot be used, though the server is not silent."""
        self._aside.failed(lease.key_id, self._clock())

    def working(self, slot: Slot) -> frozenset[str]:
        """The servers that have answered slots other than SLOT within LATELY_SECONDS."""
        since, uid = self._clock() - LATELY_SECONDS, slot.worker.uid
        return frozenset(
            server
            for server, heard in self._heard.items()
            if any(at >= since for other, at in heard.items() if other != uid)
        )

    def aside(self) -> Mapping[Hashable, float]:
        """What is put aside now, and until when (monotonic)."""
        return self._aside.until(self._clock())

    def aside_seconds(self) -> Mapping[Hashable, float]:
        """What is put aside now, and for how many more seconds."""
        now = self._clock()
        return {name: until - now for name, until in self._aside.until(now).items()}

    def aside_names(self) -> tuple[str, ...]:
        """The names of the servers that are put aside now."""
        return tuple(sorted(name for name in self.aside() if isinstance(name, str)))
