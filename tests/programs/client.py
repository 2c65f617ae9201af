"""A process of some UID inside a lab that obeys lines of JSON, {"do": "connect" | "tcp" | ...}, and answers each.

`python -m tests.programs.client SOCKET`, SOCKET being netctl's.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
import threading
import time
from typing import IO, Any

from tests.programs.sockets import Way, opened, payload, try_all

PAUSE_SECONDS = 0.01


class Netctl:
    """A connection to netctl, as bare as it is: lines of JSON over a socket."""

    _socket = socket.socket(socket.AF_UNIX)
    _answers: IO[bytes] = io.BytesIO()

    def __call__(self, order: dict[str, Any]) -> dict[str, Any]:
        """What netctl answers to the request that `do` names; the first one opens the connection."""
        if order["do"] in ("connect", "start_browser"):
            self._connect()
        self._socket.sendall(json.dumps({"method": order.pop("do"), "parameters": order}).encode() + b"\n")
        answer = json.loads(self._answers.readline() or b'{"error": "HungUp", "parameters": {}}')
        return {"ok": answer["result"]} if "result" in answer else {"error": answer["error"], **answer["parameters"]}

    def _connect(self) -> None:
        """Another connection in place of the last; where nobody listens yet, somebody will within 20 s."""
        self._answers.close()
        self._socket.close()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        end, never = time.monotonic() + 20, threading.Event()
        while self._socket.connect_ex(sys.argv[1]) and time.monotonic() < end:
            never.wait(PAUSE_SECONDS)
        self._answers = self._socket.makefile("rb")


netctl = Netctl()


def go(order: dict[str, Any]) -> dict[str, Any]:
    """One try of tcp, udp or icmp that waits for what comes: an answer where `data` is asked or a ping is sent."""
    order = {**order, "kind": order["do"]}
    with opened(order, order.get("timeout", 1)) as made:
        made.connect((order["host"], order.get("port", 443)))
        if order["kind"] == "tcp":
            return {"from": made.getsockname()[0]}
        made.send(payload(order))
        return {"received": made.recv(2000).hex()} if "data" in order or order["kind"] == "icmp" else {}


def probe(order: dict[str, Any]) -> dict[str, int]:
    """Round after round of `ways`, lists of them by name, for so many `seconds` or `rounds`: how many tries of each."""
    ways = {name: [Way(one) for one in listed] for name, listed in order["ways"].items()}
    tries = dict.fromkeys(ways, 0)
    end, rounds, never = time.monotonic() + order["seconds"], order["rounds"], threading.Event()
    while rounds > 0 and time.monotonic() < end:
        for name, listed in ways.items():
            tries[name] += try_all(listed)
        rounds -= 1
        never.wait(PAUSE_SECONDS)
    return tries


held: dict[str, list[socket.socket]] = {}


def hold(order: dict[str, Any]) -> None:
    """Connections that are to end badly: `count` of each kind with each of `hosts`, at its ports."""
    hosts = [host for host in order["hosts"] for _ in range(order["count"])]
    for role in ("bulk", "linger"):
        held[role] = [socket.create_connection((host, order[role]), timeout=10) for host in hosts]
    for one in held["bulk"]:
        assert one.recv(1000)
    held["delayed"] = [opened({"kind": "udp", "host": host}) for host in hosts]
    for host, datagrams in zip(hosts, held["delayed"], strict=True):
        datagrams.connect((host, order["delayed"]))


def end(_: dict[str, Any]) -> None:
    """Some of them are closed, some asked for an answer that comes later; the process is to be killed then."""
    for one in held["linger"]:
        one.close()
    for datagrams in held["delayed"]:
        with contextlib.suppress(OSError):
            datagrams.send(b"late")


ORDERS = {"probe": probe, "hold": hold, "end": end, **dict.fromkeys(("tcp", "udp", "icmp"), go)}


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """What comes of ORDER."""
    try:
        if order["do"] in ORDERS:
            return {"ok": ORDERS[order["do"]](order)}
        return netctl(order)
    except OSError as error:
        return {"error": type(error).__name__, "message": str(error)}


for text in sys.stdin:
    sys.stdout.write(json.dumps(obey(json.loads(text))) + "\n")
    sys.stdout.flush()
