"""Services that are near a browser and nobody else's business: `python -I -c TEXT '[["127.0.0.1", 80], ...]'`.

Each says what came, as soon as it comes: `tcp 127.0.0.1:80` for a connection, `tls 127.0.0.1:80` for a first word of
HTTPS, `/path 127.0.0.1:80` for a request, `udp 127.0.0.1:80` for a datagram. Everybody may read the answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys

_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n"


def say(what: str, name: str) -> None:
    """A line."""
    print(what, name, flush=True)


class Datagrams(asyncio.DatagramProtocol):
    """Hears, and does not answer."""

    def __init__(self, name: str) -> None:
        self._name = name

    def datagram_received(self, data: bytes, sender: object) -> None:
        say("udp", self._name)


async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    say("tcp", name)
    with contextlib.suppress(OSError):
        first = await reader.read(4096)
        if first[:1] == b"\x16":  # a handshake record (RFC 8446, 5.1)
            say("tls", name)
        elif first:
            say(first.split()[1].decode("latin-1"), name)
            text = f"secret of {name}"
            writer.write(f"{_HEAD}Content-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    for host, port in json.loads(sys.argv[1]):
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.create_server((host, port), family=family, backlog=1000)
        await asyncio.start_server(lambda reader, writer, name=name: serve(name, reader, writer), sock=made)  # type: ignore[misc]
        await loop.create_datagram_endpoint(lambda name=name: Datagrams(name), local_addr=(host, port))  # type: ignore[misc]
    say("listening", "")
    await asyncio.Event().wait()


asyncio.run(main())
