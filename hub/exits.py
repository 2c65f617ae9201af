"""Where the keys of this host come out, for a queue that many hosts share: a job for another exit is left to them.

On a host of its own such a job is taken all the same, and fails with netctl's reason.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from fleet.errors import FleetError
from fleet.model import Fleet, Paths
from fleet.sockets.netctl_api import Servers
from hub.doors import Doors, servers
from hub.queue.values import ANYWHERE

LOOK_AGAIN_SECONDS = 60.0


class Exits:
    """What is known of them; it is asked for each minute, while there are workers that wait."""

    def __init__(self, fleet: Fleet, paths: Paths) -> None:
        # Of a key service nobody knows what it gives next.
        self._asks = bool(fleet.hub.database) and fleet.keys.source is None
        self._doors = Doors(paths)
        self._known: frozenset[str] | None = None
        self._until = 0.0

    async def known(self) -> frozenset[str] | None:
        """Servers and regions; None: all there are, as long as netctl has not told."""
        if self._asks and time.monotonic() > self._until:
            self._until = time.monotonic() + LOOK_AGAIN_SECONDS
            try:
                self._known = exits_of(await self._doors.servers())
            except FleetError:
                pass  # what it told last counts on
        return self._known


def missing(wanted: Iterable[str], fleet: Fleet, paths: Paths) -> list[str]:
    """Those of the exits WANTED that no key of this host has, as far as netctl tells."""
    named = {*wanted} - {ANYWHERE}
    try:
        known = exits_of(servers(paths)) if named and fleet.keys.source is None else None
    except FleetError:
        known = None
    return [] if known is None else sorted(named - known)


def exits_of(found: Servers) -> frozenset[str] | None:
    """The servers of FOUND that have keys, and their regions; None where not all were told."""
    usable = [one for one in found.servers if one.keys > one.retired]
    names = {one.server for one in usable} | {one.region for one in usable if one.region}
    return None if found.more else frozenset(names)
