"""The server notices that a caller is gone while it still works for it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from fleet import wire
from fleet.rpc import Connection, Limits, Server, Verdict


class Slow:
    """A service whose requests take a minute, and which tells what became of them."""

    def __init__(self) -> None:
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.story: list[str] = []

    async def handle(self, connection: Connection, request: wire.Request) -> wire.Message:
        """Take a minute."""
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # cleaning up takes its time, and is waited for
            self.story.append("cancelled")
            raise
        return wire.Done()

    async def closed(self, connection: Connection) -> None:
        """The end."""
        self.story.append("closed")
        self.ended.set()


def test_a_hang_up_ends_the_request(tmp_path: Path) -> None:
    """The caller closes in the middle: the request is cancelled, cleaned up, and then the connection is closed."""

    async def scene() -> list[str]:
        service = Slow()
        server = Server(
            service=service,
            permission=lambda _peer, _request: Verdict(allowed=True, reason="a test"),
            limits=Limits(),
            program="test",
        )
        await server.start(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "socket"))
            caller.sendall(wire.encode_request(wire.Status()))
            await asyncio.wait_for(service.started.wait(), 5)
        await asyncio.wait_for(service.ended.wait(), 1)
        await server.close()
        return service.story

    assert asyncio.run(scene()) == ["cancelled", "closed"]
