"""What the streams talk to: TCP says who calls and hangs up, UDP is swallowed. Runs in the lab's `web` host."""

from __future__ import annotations

import asyncio
import socket
import sys

ECHO, SINK = int(sys.argv[1]), int(sys.argv[2])


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The caller's address, in its canonical form."""
    writer.write(writer.get_extra_info("peername")[0].removeprefix("::ffff:").encode())
    writer.close()


async def main() -> None:
    """Serve for ever."""
    sink = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sink.bind(("::", SINK))
    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, sock=sink)
    listener = socket.create_server(("::", ECHO), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1000)
    server = await asyncio.start_server(answer, sock=listener)
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
