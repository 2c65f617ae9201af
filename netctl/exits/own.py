"""This host's own addresses, which cannot be a key's exit: those on its interfaces, and those that the internet sees.

They are looked up only when an exit is to be checked, and again when they may have changed: after a start without
network, a new address from DHCP, a router that reconnects. So no exit is checked against outdated addresses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass

from fleet import log
from fleet.errors import Unproved
from fleet.model import EgressSettings
from fleet.sockets.wire import Address
from netctl.exits.probe import Seen
from netctl.kernel import netlink, observe, rtnetlink

FRESH_SECONDS = 60.0
"""How long an answer is valid: behind a router with NAT the host cannot see that its public address has changed."""
AGAIN_SECONDS = 5.0
"""After this time it asks again if there was no answer over IPv4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The services' answer FOUND, valid while the interfaces have the addresses HERE, and UNTIL (clock seconds)."""

    here: frozenset[Address]
    until: float
    found: Seen


class OwnAddresses:
    """See above. IN_THE_CLEAR asks which addresses the internet sees without a tunnel; CLOCK is monotonic."""

    def __init__(
        self,
        settings: EgressSettings,
        in_the_clear: Callable[[], Awaitable[Seen]],
        *,
        on_interfaces: Callable[[], frozenset[Address]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._told = frozenset(settings.host_addresses)
        self._in_the_clear = in_the_clear
        self._on_interfaces = on_interfaces or addresses_here
        self._clock = clock
        self._asked: _Asked | None = None
        self._lock = asyncio.Lock()
        self._log = log.get("netctl")

    async def known(self, judged: Address) -> frozenset[Address]:
        """All own addresses as they are now, to check the address JUDGED against.

        Raises Unproved where the services' answer is needed and missing; for an IPv4 address it must be over IPv4.
        """
        async with self._lock:
            here = self._on_interfaces()
            if self._told:
                return here | self._told
            if self._asked is None or self._asked.here != here or self._clock() > self._asked.until:
                found = await self._in_the_clear()
                whole = any(one.version == 4 for one in found.addresses)
                seconds = FRESH_SECONDS if whole else AGAIN_SECONDS
                self._tell(found)
                self._asked = _Asked(here=here, until=self._clock() + seconds, found=found)
            seen = self._asked.found.addresses
            if not any(one.version in (4, judged.version) for one in seen):
                raise Unproved(
                    f"this host's public address is not known: {self._asked.found.trouble}",
                    hint="set egress.host_addresses, or give the key its '# ExitAddress ='",
                )
            return here | frozenset(seen)

    def _tell(self, found: Seen) -> None:
        before = self._asked.found.addresses if self._asked else ()
        if found.addresses != before:
            self._log.info("host.addresses", seen=[*map(str, found.addresses)], trouble=found.trouble)


def addresses_here() -> frozenset[Address]:
    """Every address on an interface in the host's namespace."""
    with closing(netlink.Socket(netlink.ROUTE)) as asking:
        bodies = [
            body
            for family in observe.families()
            for body in asking.dump(rtnetlink.GET_ADDRESS, rtnetlink.all_of(family))
        ]
    return frozenset(rtnetlink.read_address(body).address for body in bodies)
