"""A server with one planted fault: `python -m tests.fuzz.planted SOCKET FAULT`. What a watcher must notice."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from fleet import log, wire
from fleet.rpc import Connection, Limits, Server, Verdict

WIDE = 1_000_000


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
            self._kept.append(os.urandom(20_000))
        return wire.Done()

    async def closed(self, connection: Connection) -> None:
        """See fleet.rpc.Service."""
        if self._fault == "crash when closed":
            raise ZeroDivisionError


async def _serve(path: Path, fault: str) -> None:
    limits = Limits(
        connections_per_second=WIDE,
        connections_burst=WIDE,
        requests_per_second=WIDE,
        requests_burst=WIDE,
        key_requests_per_second=WIDE,
        key_requests_burst=WIDE,
    )
    server = Server(
        service=Planted(fault),
        permission=lambda _peer, _request: Verdict(allowed=True, reason="a test"),
        limits=limits,
        program="test",
    )
    await server.start(path)
    await asyncio.Event().wait()


if __name__ == "__main__":
    log.configure()
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2]))
