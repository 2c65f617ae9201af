"""What the streams talk to: TCP says who calls, or sends without an end; UDP is swallowed. Runs in the lab's `web`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

ECHO, SINK, BULK = (int(text) for text in sys.argv[1:])
CHUNK, PAUSE_SECONDS = bytes(4096), 0.02


def listener(port: int) -> socket.socket:
    """PORT, for IPv4 and IPv6."""
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1000)


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The caller's address, in its canonical form."""
    writer.write(writer.get_extra_info("peername")[0].removeprefix("::ffff:").encode())
    writer.close()


async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A page that never ends to load."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(CHUNK)
            await writer.drain()
            await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    """Serve for ever."""
    sink = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.bind(("::", SINK))
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, sock=sink)
    servers = [await asyncio.start_server(work, sock=listener(port)) for port, work in ((ECHO, answer), (BULK, send))]
    print("ready", flush=True)
    await servers[0].serve_forever()


asyncio.run(main())
