"""The server notices that a caller is gone while it still works for it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from fleet.sockets import wire
from fleet.sockets.callers import Caller, Connection, Limits, Row, Table
from fleet.sockets.rpc import Server
from fleet.sockets.wire import Done
from tests.unit.toy import Look


class Slow:
    """A service whose requests take a minute, and which tells what became of them."""

    def __init__(self) -> None:
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.story: list[str] = []
        self.caller: Connection | None = None

    async def look(self, connection: Connection, _: Look) -> Done:
        """Take a minute."""
        self.caller = connection
        self.started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # cleaning up takes its time, and is waited for
            self.story.append("cancelled")
            raise
        return Done()

    async def closed(self, connection: Connection) -> None:
        """The end."""
        self.story.append("closed")
        self.ended.set()


async def serving(service: Slow, path: Path) -> Server:
    """A server of SERVICE at PATH that lets everybody do everything."""
    table = Table("test", Row(request=Look, callers=frozenset({Caller.WORKER})))
    server = Server(table, service, caller=lambda _: Caller.WORKER, limits=Limits())
    await server.start(path)
    return server


def test_a_service_hangs_up(tmp_path: Path) -> None:
    """The service ends a connection from its side: the caller, waiting for an answer, finds it closed."""

    async def scene() -> tuple[bytes, list[str]]:
        service = Slow()
        server = await serving(service, tmp_path / "socket")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(wire.encode_request(Look()))
        await asyncio.wait_for(service.started.wait(), 5)
        assert service.caller
        service.caller.hang_up()
        received = await asyncio.wait_for(reader.read(), 5)
        await asyncio.wait_for(service.ended.wait(), 5)
        writer.close()
        await server.close()
        return received, service.story

    assert asyncio.run(scene()) == (b"", ["cancelled", "closed"])


def test_a_hang_up_ends_the_request(tmp_path: Path) -> None:
    """The caller closes in the middle: the request is cancelled, cleaned up, and then the connection is closed."""

    async def scene() -> list[str]:
        service = Slow()
        server = await serving(service, tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "socket"))
            caller.sendall(wire.encode_request(Look()))
            await asyncio.wait_for(service.started.wait(), 5)
        await asyncio.wait_for(service.ended.wait(), 1)
        await server.close()
        return service.story

    assert asyncio.run(scene()) == ["cancelled", "closed"]
