"""What the hub, which has no rights, asks of netctl and acts; each has a table of the hub's requests."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from fleet.model import Paths
from fleet.sockets.acts_api import Start, Stop
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import AnotherExit, KeysByServer, Servers
from fleet.sockets.wire import Done, ReplyT, Request

ANSWER_SECONDS = 40.0
"""netctl may wait for a worker that is getting a tunnel."""
LOOK_SECONDS = 5.0
FRESH_SECONDS = 10.0
"""netctl limits the hub's requests."""


class Doors:
    """Every method raises the error that comes back, or Unavailable."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._looking = asyncio.Lock()
        self._servers: Servers | None = None
        self._until = 0.0

    async def act(self, what: str, worker: str) -> None:
        """Stop, start or rotate WORKER."""
        request: Request
        if what == "rotate":
            path, request = self._paths.netctl_socket, AnotherExit(worker=worker)
        else:
            path, request = self._paths.acts_socket, {"stop": Stop, "start": Start}[what](worker=worker)
        await asyncio.to_thread(_ask, path, request, Done, ANSWER_SECONDS)

    async def servers(self) -> Servers:
        """The keys by server, at most FRESH_SECONDS old; callers at the same time share one request."""
        async with self._looking:
            if self._servers is None or time.monotonic() > self._until:
                self._servers = await asyncio.to_thread(servers, self._paths)
                self._until = time.monotonic() + FRESH_SECONDS
            return self._servers


def servers(paths: Paths) -> Servers:
    """The keys by server, as they are now."""
    return _ask(paths.netctl_socket, KeysByServer(), Servers, LOOK_SECONDS)


def _ask(path: Path, request: Request, kind: type[ReplyT], seconds: float) -> ReplyT:
    with Client(path, timeout_seconds=seconds) as client:
        return client.ask(request, kind)
