"""What ended connections were talking to, in the lab's `web`: it goes on talking when its peer has gone.

BULK sends without an end; LINGER closes a moment after its peer; DELAYED answers a datagram a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from typing import cast

BULK, LINGER, DELAYED = (int(text) for text in sys.argv[1:])
LATER_SECONDS = 0.4


async def bulk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A page that never ends to load."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(bytes(4096))
            await writer.drain()
            await asyncio.sleep(0.02)


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The peer's end is answered late: its socket waits in FIN_WAIT2, then in TIME_WAIT, and owes an ACK."""
    with contextlib.suppress(ConnectionError):
        await reader.read()
        await asyncio.sleep(LATER_SECONDS)
        writer.close()


class Delayed(asyncio.DatagramProtocol):
    """Answers late, to a port that may be nobody's then."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the transport of a datagram endpoint is no DatagramTransport by its class.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        asyncio.get_running_loop().call_later(LATER_SECONDS, self._transport.sendto, data, sender)


async def main() -> None:
    """Serve for ever, on IPv4 and IPv6."""
    for address in ("203.0.113.80", "2001:db8:2::80"):
        await asyncio.get_running_loop().create_datagram_endpoint(Delayed, local_addr=(address, DELAYED))
    for port, work in ((BULK, bulk), (LINGER, linger)):
        made = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1000)
        await asyncio.start_server(work, sock=made)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
