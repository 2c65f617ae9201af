"""Many workers' connections in one process, so that they cost the machine little beside what is measured.

`python -m bench.crowd SOCKET FIRST_UID COUNT AT_ONCE ROUNDS`, as root inside a lab's host: the kernel records the
effective UID at the moment a connection is made (unix(7), SO_PEERCRED), so one process can be all of them. Prints one
JSON object; every time is in milliseconds.
"""

from __future__ import annotations

import grp
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

PATIENCE_SECONDS = 60.0


def connected(path: str, uid: int) -> socket.socket:
    """A connection that belongs to UID."""
    made = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        made.connect(path)
    finally:
        os.seteuid(0)
    made.settimeout(PATIENCE_SECONDS)
    return made


def ask(connection: socket.socket, method: str) -> tuple[dict[str, Any], float]:
    """One request alone: its result and how long it took."""
    started = time.perf_counter()
    connection.sendall(frame(method))
    answer = b""
    while not answer.endswith(b"\n"):
        answer += connection.recv(1 << 20)
    return result(answer), (time.perf_counter() - started) * 1000


def frame(method: str) -> bytes:
    """A request as it crosses the socket."""
    return json.dumps({"method": method, "parameters": {}}).encode() + b"\n"


def result(answer: bytes) -> dict[str, Any]:
    """The answer; an error ends the measurement."""
    document: dict[str, Any] = json.loads(answer)
    if "result" not in document:
        raise SystemExit(f"netctl answered {answer[:500]!r}")
    found: dict[str, Any] = document["result"]
    return found


def at_once(connections: Sequence[socket.socket], method: str) -> list[tuple[float, float]]:
    """All ask together; for each its time, and the part of it that netctl calls the handshake."""
    text, found = frame(method), list[tuple[float, float]]()
    with selectors.DefaultSelector() as waiting:
        for one in connections:
            waiting.register(one, selectors.EVENT_READ)
        started = time.perf_counter()
        for one in connections:
            one.sendall(text)
        while waiting.get_map():
            for key, _ in waiting.select(PATIENCE_SECONDS) or _too_late():
                answer = result(key.fileobj.recv(1 << 16))  # type: ignore[union-attr]
                took = (time.perf_counter() - started) * 1000
                found.append((took, answer["handshake_ms"]))
                waiting.unregister(key.fileobj)
    return found


def _too_late() -> Any:
    raise SystemExit(f"no answer within {PATIENCE_SECONDS:g} s")


def groups(connections: Sequence[socket.socket], size: int) -> Iterator[Sequence[socket.socket]]:
    """CONNECTIONS in groups of SIZE, the rest of fewer left out."""
    for start in range(0, len(connections) - size + 1, size):
        yield connections[start : start + size]


def stage(name: str, numbers: Any = None) -> None:
    """Print what was measured, so that the parent can read netctl's processor time in between."""
    print(json.dumps({"stage": name, "numbers": numbers}), flush=True)
    sys.stdin.readline()


def main() -> None:
    """Connect in groups, rotate alone and in groups, ask for the status."""
    path, first, count, size, rounds = sys.argv[1], *map(int, sys.argv[2:6])
    os.setgroups([grp.getgrnam("fleet").gr_gid])  # theirs is the socket's folder
    crowd = [connected(path, first + number) for number in range(count)]
    root = connected(path, 0)
    stage("begin")
    connects = [pair for group in groups(crowd, size) for pair in at_once(group, "connect")]
    stage("connect", connects)
    for one in crowd[count - count % size :]:
        ask(one, "connect")
    stage("rest")
    answers = [ask(one, "rotate") for one in crowd[:30]]
    stage("rotate alone", [(took, answer["handshake_ms"]) for answer, took in answers])
    rotates = [pair for _ in range(rounds) for group in groups(crowd, size) for pair in at_once(group, "rotate")]
    stage("rotate", rotates)
    stage("status of one", [ask(crowd[0], "status")[1] for _ in range(10)])
    answers = [ask(root, "status") for _ in range(30)]
    stage("status", [took for _, took in answers])
    stage("states", [slot["state"] for slot in answers[-1][0]["slots"]])
    stage("status bytes", len(json.dumps(answers[-1][0], separators=(",", ":"))))
    stage("end")


if __name__ == "__main__":
    main()
