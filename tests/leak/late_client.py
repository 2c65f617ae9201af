"""Connections that are to end badly: `python -I -c TEXT HOST BULK LINGER DELAYED COUNT`, under a worker's UID.

COUNT downloads that run. On a line of its input COUNT connections are closed, COUNT datagrams are sent whose answers
come later, it says `ended` and waits to be killed. The kernel has to deal with the rest.
"""

from __future__ import annotations

import socket
import sys

host, (bulk, linger, delayed, count) = sys.argv[1], map(int, sys.argv[2:])


def connected(port: int) -> socket.socket:
    """A connection."""
    return socket.create_connection((host, port), timeout=10)


downloads = [connected(bulk) for _ in range(count)]
for one in downloads:
    assert one.recv(1000)
lingering = [connected(linger) for _ in range(count)]
asking = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
for datagrams in asking:
    datagrams.connect((host, delayed))
print("ready", flush=True)
sys.stdin.readline()
for one in lingering:
    one.close()
for datagrams in asking:
    datagrams.send(b"late")
print("ended", flush=True)
sys.stdin.readline()
