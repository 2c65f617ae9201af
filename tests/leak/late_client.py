"""Connections that are to end badly: `python -I -c TEXT HOSTS BULK LINGER DELAYED COUNT`, under a worker's UID.

With each of the HOSTS (addresses, a comma between them) COUNT downloads run. On a line of its input COUNT connections
are closed, COUNT datagrams are sent whose answers come later, it says `ended` and waits to be killed. The kernel has to
deal with the rest.
"""

from __future__ import annotations

import socket
import sys

bulk, linger, delayed, count = map(int, sys.argv[2:])
hosts = [host for host in sys.argv[1].split(",") for _ in range(count)]


def asked(host: str) -> socket.socket:
    """A socket for datagrams to HOST."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((host, delayed))
    return made


downloads = [socket.create_connection((host, bulk), timeout=10) for host in hosts]
for one in downloads:
    assert one.recv(1000)
lingering = [socket.create_connection((host, linger), timeout=10) for host in hosts]
asking = [asked(host) for host in hosts]
print("ready", flush=True)
sys.stdin.readline()
for one in lingering:
    one.close()
for datagrams in asking:
    datagrams.send(b"late")
print("ended", flush=True)
sys.stdin.readline()
