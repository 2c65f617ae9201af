"""A caller that means harm: `python -m tests.unit.hostile SOCKET UID KIND`, started as root, runs until it is killed.

Prints `on` when its attack is under way.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator

from fleet import wire
from fleet.netctl_api import Status
from tests.fuzz.frames import frames

MANY = 200
STATUS = wire.encode_request(Status())


def connection(path: str) -> socket.socket:
    """A connection, however long the queue is."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(path)
    made.setblocking(False)
    return made


def crowd(path: str, each: Callable[[socket.socket], None]) -> Iterator[None]:
    """MANY connections on which EACH is done again and again; those that were hung up on are made anew."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            while len(held) < MANY:
                held.append(connection(path))
        for one in list(held):
            try:
                each(one)
            except BlockingIOError:
                pass
            except OSError:
                held.remove(one)
                one.close()
        yield


def connects(path: str) -> Iterator[None]:
    """Connects and hangs up."""
    while True:
        with contextlib.suppress(OSError):
            connection(path).close()
        yield


def asks(path: str) -> Iterator[None]:
    """Asks without end, and reads the answers."""

    def each(one: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            one.send(STATUS * 10)
        if not one.recv(1 << 16):
            raise ConnectionResetError

    return crowd(path, each)


def deaf(path: str) -> Iterator[None]:
    """Asks without end, and reads nothing."""
    return crowd(path, lambda one: [one.send(STATUS * 10) for _ in range(10)].clear())


def long(path: str) -> Iterator[None]:
    """Frames that do not end."""
    return crowd(path, lambda one: [one.send(b"x" * 65_536) for _ in range(3)].clear())


def slow(path: str) -> Iterator[None]:
    """A byte of a frame now and then."""

    def each(one: socket.socket) -> None:
        one.send(b"x")
        select.select([], [], [], 0.001)

    return crowd(path, each)


def half(path: str) -> Iterator[None]:
    """Says that no more will come in the middle of a frame, and stays."""

    def each(one: socket.socket) -> None:
        with contextlib.suppress(BrokenPipeError):
            one.send(b'{"method"')
        one.shutdown(socket.SHUT_WR)
        if not one.recv(1 << 16):
            raise ConnectionResetError

    return crowd(path, each)


def garbage(path: str) -> Iterator[None]:
    """Fuzzed frames."""
    source = frames(7)

    def each(one: socket.socket) -> None:
        one.send(b"\n".join(itertools.islice(source, 5)) + b"\n")
        if not one.recv(1 << 16):
            raise ConnectionResetError

    return crowd(path, each)


KINDS = {made.__name__: made for made in (connects, asks, deaf, long, slow, half, garbage)}


def main() -> None:
    """Become UID and attack."""
    path, uid, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.setresuid(uid, uid, uid)
    for number, _ in enumerate(KINDS[kind](path)):
        if number == 3:
            print("on", flush=True)


if __name__ == "__main__":
    main()
