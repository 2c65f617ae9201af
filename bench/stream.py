"""Measures the speed of a TCP stream: `python -c TEXT serve PORT`, `python -c TEXT down|up ADDRESS PORT SECONDS`.

A separate program with only the standard library, because it runs under a worker's UID, which may read no other code.
The client prints bytes a second, without the first half second, in which TCP finds its speed; then all bytes, and the
seconds of processor time that it has used.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable

CHUNK = memoryview(bytearray(1 << 18))
WARM_UP_SECONDS = 0.5
PATIENCE_SECONDS = 10.0


def serve(port: int) -> None:
    """For ever: `d` asks for bytes without end, after `u` whatever comes is taken."""
    with socket.create_server(("", port)) as listener:
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    """Until the other side has gone."""
    with connection:
        connection.settimeout(PATIENCE_SECONDS)
        take = connection.recv(1) == b"u"
        try:
            while connection.recv_into(CHUNK) if take else connection.send(CHUNK):
                pass
        except OSError:
            pass  # it hangs up in the middle


def measure(direction: str, address: str, port: int, seconds: float) -> tuple[float, int, float]:
    """Bytes a second; bytes; seconds of processor time."""
    before = time.process_time()
    with socket.create_connection((address, port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(direction[:1].encode())
        move = connection.recv_into if direction == "down" else connection.send
        first = until(move, time.monotonic() + WARM_UP_SECONDS)
        began = time.monotonic()
        moved = until(move, began + seconds)
        return moved / (time.monotonic() - began), first + moved, time.process_time() - before


def until(move: Callable[[memoryview], int], end: float) -> int:
    """How many bytes until END."""
    moved = 0
    while time.monotonic() < end:
        part = move(CHUNK)
        if not part:
            sys.exit("the other side hung up")
        moved += part
    return moved


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        print(*measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
