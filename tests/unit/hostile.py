"""A hostile caller: `python -m tests.unit.hostile SOCKET UID KIND`, started as root, runs until it is killed.

It prints `on` once its attack runs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import sys

from fleet.sockets import wire
from fleet.sockets.netctl_api import Status
from tests.fuzz.frames import frames

MANY = 200
FRAMES = frames(7)
STATUS = wire.encode_request(Status())


def connection(path: str) -> socket.socket:
    """A connection, however long the queue is."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(10)
    made.connect(path)
    made.setblocking(False)
    return made


def heard(one: socket.socket) -> None:
    """Read what has arrived; raises ConnectionResetError if the other side has hung up."""
    if not one.recv(1 << 16):
        raise ConnectionResetError


def connects(_: socket.socket) -> None:
    """Connects and hangs up."""
    raise ConnectionResetError


def asks(one: socket.socket) -> None:
    """Asks without end, and reads the answers."""
    with contextlib.suppress(BlockingIOError):
        one.send(STATUS * 10)
    heard(one)


def deaf(one: socket.socket) -> None:
    """Asks without end, and reads nothing."""
    for _ in range(10):
        one.send(STATUS * 10)


def long(one: socket.socket) -> None:
    """Frames that do not end."""
    for _ in range(3):
        one.send(b"x" * 65_536)


def slow(one: socket.socket) -> None:
    """A byte of a frame now and then."""
    one.send(b"x")
    select.select([], [], [], 0.001)


def half(one: socket.socket) -> None:
    """Shuts down sending in the middle of a frame, and stays connected."""
    with contextlib.suppress(BrokenPipeError):
        one.send(b'{"method"')
    one.shutdown(socket.SHUT_WR)
    heard(one)


def garbage(one: socket.socket) -> None:
    """Fuzzed frames."""
    one.send(b"\n".join(itertools.islice(FRAMES, 5)) + b"\n")
    heard(one)


KINDS = {made.__name__: made for made in (connects, asks, deaf, long, slow, half, garbage)}


def main() -> None:
    """Become UID; round after round on MANY connections, or on one where they only come and go."""
    path, uid, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.setresuid(uid, uid, uid)
    held: list[socket.socket] = []
    for number in itertools.count():
        with contextlib.suppress(OSError):
            while len(held) < (1 if kind == "connects" else MANY):
                held.append(connection(path))
        for one in list(held):
            try:
                KINDS[kind](one)
            except BlockingIOError:
                pass
            except OSError:  # hung up; another is made
                held.remove(one)
                one.close()
        if number == 3:
            print("on", flush=True)


if __name__ == "__main__":
    main()
