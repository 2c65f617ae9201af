"""A server with one planted fault, or with none: `python -m tests.fuzz.planted SOCKET FAULT [LIMITS]`.

LIMITS is JSON, fields of fleet.callers.Limits; without it every rate is as good as off.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from fleet import log, wire
from fleet.rpc import Connection, Limits, Server, Verdict

MANY = 1_000_000
WIDE = {
    **{"connections_per_second": MANY, "connections_burst": MANY, "requests_per_second": MANY},
    **{"requests_burst": MANY, "key_requests_per_second": MANY, "key_requests_burst": MANY},
}


class Planted:
    """Answers everything, and has the fault that it is told to have."""

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._kept: list[bytes] = []

    async def handle(self, connection: Connection, request: wire.Request) -> wire.Message:
        """See fleet.rpc.Service."""
        if isinstance(request, wire.Status) and self._fault != "mute":
            return wire.NetctlStatus(backend="none", pid=os.getpid(), slots=(), pool=None)
        if isinstance(request, wire.Proved):
            if self._fault == "crash":
                raise ZeroDivisionError
            if self._fault == "end":
                os._exit(3)
        if self._fault == "leak":
            self._kept.append(os.urandom(1_000_000))
        return wire.Done()

    async def closed(self, connection: Connection) -> None:
        """See fleet.rpc.Service."""
        if self._fault == "crash when closed":
            raise ZeroDivisionError


async def _serve(path: Path, fault: str, limits: Limits) -> None:
    server = Server(
        service=Planted(fault),
        permission=lambda _peer, _request: Verdict(allowed=True, reason="a test"),
        limits=limits,
        program="test",
    )
    await server.start(path, 0o666)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    log.configure()
    limits = Limits(**json.loads(sys.argv[3])) if len(sys.argv) > 3 else replace(Limits(), **WIDE)
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2], limits))


if __name__ == "__main__":
    main()
