"""A server with one planted fault, or with none: `python -m tests.fuzz.planted SOCKET FAULT [LIMITS]`.

LIMITS is JSON, fields of fleet.sockets.callers.Limits; without it every rate is as good as off.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from fleet import log
from fleet.sockets import netctl_api
from fleet.sockets.callers import Caller, Connection, Limits, Rate
from fleet.sockets.netctl_api import NetctlStatus
from fleet.sockets.rpc import Server
from fleet.sockets.wire import Done, Message, Request

MANY = 1_000_000
WIDE = {
    **{"connections_per_second": MANY, "connections_burst": MANY, "requests_per_second": MANY},
    "requests_burst": MANY,
}
RATES = dict.fromkeys(netctl_api.RATES, Rate(per_second=MANY, burst=MANY))


class Planted:
    """Answers everything, and has the fault that it is told to have."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._kept: list[bytes] = []

    async def status(self, connection: Connection, request: Request) -> Message:
        """The status of nothing."""
        if self._fault == "mute":
            return Done()
        return NetctlStatus(backend="none", pid=os.getpid(), slots=(), pool=None)

    async def connect(self, connection: Connection, request: Request) -> Message:
        """Nothing, for which a leak keeps something."""
        if self._fault == "leak":
            self._kept.append(os.urandom(1_000_000))
        return Done()

    rotate = start_browser = stuck = another_exit = keys_by_server = connect

    async def proved(self, connection: Connection, request: Request) -> Message:
        """Nothing, or the end."""
        if self._fault == "crash":
            raise ZeroDivisionError
        if self._fault == "end":
            os._exit(3)
        return await self.connect(connection, request)

    async def closed(self, connection: Connection) -> None:
        """See fleet.sockets.rpc.Service."""
        if self._fault == "crash when closed":
            raise ZeroDivisionError


async def _serve(path: Path, fault: str, limits: Limits) -> None:
    server = Server(netctl_api.TABLE, Planted(fault), caller=lambda _: Caller.WORKER, limits=limits)
    await server.start(path, 0o666)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    log.configure()
    limits = Limits(rates=RATES, **(json.loads(sys.argv[3]) if len(sys.argv) > 3 else WIDE))
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], limits))


if __name__ == "__main__":
    main()
