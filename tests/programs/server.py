"""Services of a lab's host: `python -m tests.programs.server '[["echo", "::", 4480], ...]'`, up when it says `ready`.

    echo    says who calls            bulk     sends without an end
    sink    swallows datagrams        linger   closes a moment after its peer
    tell    says who comes            delayed  answers a datagram a moment later

`tell` prints what comes as soon as it comes, where, and from whom: `tcp 127.0.0.1:80 ADDRESS`, `udp ...`, `tls ...` for
a first word of HTTPS, `/path ...` for a request, whose answer everybody may read. `::` is both IP versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from functools import partial
from typing import Any, cast

from tests.programs.sockets import place

LATER_SECONDS = 0.4
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"


async def echo(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The caller's address, in its canonical form."""
    writer.write(writer.get_extra_info("peername")[0].removeprefix("::ffff:").encode())


async def bulk(_: str, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A page that never ends to load."""
    while True:
        writer.write(bytes(4096))
        await writer.drain()
        await asyncio.sleep(0.02)


async def linger(_: str, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """The peer's end is answered late: its socket waits in FIN_WAIT2, then in TIME_WAIT, and owes an ACK."""
    await reader.read()
    await asyncio.sleep(LATER_SECONDS)


async def tell(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    peer = writer.get_extra_info("peername")[0]
    say("tcp", name, peer)
    first = await reader.read(4096)
    if first[:1] == b"\x16":  # a handshake record (RFC 8446, 5.1)
        say("tls", name, peer)
    elif first:
        say(first.split()[1].decode("latin-1"), name, peer)
        text = f"secret of {name}"
        writer.write(f"{HEAD}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        await writer.drain()


class Datagrams(asyncio.DatagramProtocol):
    """What a service does with datagrams."""

    def __init__(self, role: str, name: str) -> None:
        self._role, self._name = role, name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the transport of a datagram endpoint is no DatagramTransport by its class.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        if self._role == "tell":
            say("udp", self._name, sender[0])
        elif self._role == "delayed":  # to a port that may be closed by then
            asyncio.get_running_loop().call_later(LATER_SECONDS, self._transport.sendto, data, sender)


STREAMS = {"echo": echo, "bulk": bulk, "linger": linger, "tell": tell}


def say(*words: str) -> None:
    """A line."""
    print(*words, flush=True)


async def serve(role: str, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, to its end."""
    with contextlib.suppress(OSError):
        await STREAMS[role](name, reader, writer)
    writer.close()


async def start(role: str, host: str, port: int) -> None:
    """One service."""
    name, v6 = place(host, port), ":" in host
    family = socket.AF_INET6 if v6 else socket.AF_INET
    both: dict[str, Any] = {"dualstack_ipv6": True} if host == "::" else {}
    if role in STREAMS:
        made = socket.create_server((host, port), family=family, backlog=1000, **both)
        await asyncio.start_server(partial(serve, role, name), sock=made)
    if role in ("sink", "delayed", "tell"):
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if v6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        datagrams.bind((host, port))
        await asyncio.get_running_loop().create_datagram_endpoint(partial(Datagrams, role, name), sock=datagrams)


async def main() -> None:
    """Serve for ever."""
    for role, host, port in json.loads(sys.argv[1]):
        await start(role, host, port)
    say("ready")
    await asyncio.Event().wait()


asyncio.run(main())
