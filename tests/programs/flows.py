"""A worker's program that sends on all its sockets, for as long as it lives: `python flows.py SITE`.

Each line of its input is an order, answered by "done", about the site's port N of each kind: `open N` makes a UDP and a
TCP connection, `free N` a UDP socket that is connected to nobody, `burst N` sends datagrams from such a one, this once.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable

UDP, TCP = 20_000, 30_000
"""Port 0 of each kind."""
PAUSE_SECONDS = 0.001
BURST = 300
"""Less than a device's queue takes: 500."""
SITE = sys.argv[-1]
sending: list[Callable[[bytes], object]] = []


def opened(number: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.connect((SITE, UDP + number))
    datagrams.send(b"first")
    stream = socket.create_connection((SITE, TCP + number), timeout=5)
    stream.setblocking(False)
    sending.extend((datagrams.send, stream.send))


def free(number: int) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sending.append(lambda data: datagrams.sendto(data, (SITE, UDP + number)))


def burst(number: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for _ in range(BURST):
            with contextlib.suppress(OSError):
                datagrams.sendto(b"at once", (SITE, UDP + number))


def send_on() -> None:
    never = threading.Event()
    while not never.wait(PAUSE_SECONDS):
        for send in [*sending]:
            with contextlib.suppress(OSError):
                send(b"on and on")


if __name__ == "__main__":
    threading.Thread(target=send_on, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        word, given = line.split()
        {"open": opened, "free": free, "burst": burst}[word](int(given))
        print("done", flush=True)
