"""A program that is none of the fleet's: its own requests, in its own table, served by the one server."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address
from typing import ClassVar

from pydantic import Field

from fleet.errors import NoKeyFree, from_wire
from fleet.sockets.callers import Caller, Connection, Peer, Rate, Row, Table
from fleet.sockets.wire import Done, Message, Request


class Look(Request):
    """Answered at once."""

    method: ClassVar[str] = "look"


class Take(Request):
    """Has a rate of its own, and there is never anything to take."""

    method: ClassVar[str] = "take"
    name: str | None = Field(default=None, max_length=64)


class Hang(Request):
    """Never answered."""

    method: ClassVar[str] = "hang"


class Crash(Request):
    """Runs into a fault."""

    method: ClassVar[str] = "crash"
    address: IPv4Address = IPv4Address("203.0.113.11")


class Fail(Request):
    """Fails with the error called NAME."""

    method: ClassVar[str] = "fail"
    name: str


TAKES = "requests that take"
RATES = {TAKES: Rate(per_second=1_000, burst=1_000)}
_WORKER = frozenset({Caller.WORKER})
TABLE = Table(
    "toy",
    Row(request=Look, callers=_WORKER | {Caller.OPERATOR}, routine=True),
    Row(request=Take, callers=_WORKER, rate=TAKES),
    Row(request=Hang, callers=_WORKER),
    Row(request=Crash, callers=_WORKER),
    Row(request=Fail, callers=_WORKER),
)


class Toy:
    """The toy's service; remembers who asked and which connections ended."""

    def __init__(self, reply: Message) -> None:
        self.reply = reply
        self.peers: list[Peer] = []
        self.closed_connections: list[Connection] = []

    async def look(self, connection: Connection, _: Look) -> Message:
        """The reply it was made with."""
        self.peers.append(connection.peer)
        return self.reply

    async def take(self, connection: Connection, _: Take) -> Message:
        """Nothing."""
        raise NoKeyFree(data={"free_in_seconds": 2})

    async def hang(self, connection: Connection, _: Hang) -> Message:
        """No end."""
        await asyncio.Event().wait()
        return Done()

    async def crash(self, connection: Connection, _: Crash) -> Message:
        """A fault."""
        raise ZeroDivisionError

    async def fail(self, connection: Connection, request: Fail) -> Message:
        """An error of the tree."""
        raise from_wire(request.name, {"message": f"no {request.name}", "hint": "do that", "data": {"seconds": 3}})

    async def closed(self, connection: Connection) -> None:
        """Count the end."""
        self.closed_connections.append(connection)
