"""The exits of this host's keys, for a queue that many hosts share: it leaves jobs for other exits to other hosts.

On a queue of one host such a job is taken anyway, and fails with netctl's reason.
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
    """The known exits; asked for each minute while workers wait."""

    def __init__(self, fleet: Fleet, paths: Paths) -> None:
        # It is unknown which servers a key service will give next.
        self._asks = bool(fleet.hub.database) and fleet.keys.source is None
        self._doors = Doors(paths)
        self._known: frozenset[str] | None = None
        self._until = 0.0

    async def known(self) -> frozenset[str] | None:
        """The known servers and regions; None before netctl's first answer: any exit."""
        if self._asks and time.monotonic() > self._until:
            self._until = time.monotonic() + LOOK_AGAIN_SECONDS
            try:
                self._known = exits_of(await self._doors.servers())
            except FleetError:
                pass  # its last answer stays valid
        return self._known


def missing(wanted: Iterable[str], fleet: Fleet, paths: Paths) -> list[str]:
    """The exits of WANTED that no key of this host has; [] if netctl does not answer."""
    named = {*wanted} - {ANYWHERE}
    try:
        known = exits_of(servers(paths)) if named and fleet.keys.source is None else None
    except FleetError:
        known = None
    return [] if known is None else sorted(named - known)


def exits_of(found: Servers) -> frozenset[str] | None:
    """The servers of FOUND that have keys, and their regions; None if the list is not complete."""
    usable = [one for one in found.servers if one.keys > one.retired]
    names = {one.server for one in usable} | {one.region for one in usable if one.region}
    return None if found.more else frozenset(names)
