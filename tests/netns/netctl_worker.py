"""A worker's side of the connection, driven by JSON lines: {"do": "connect" | "rotate" | ...} on standard input.

Runs under the worker's UID as `python -I -c TEXT RELEASE SOCKET`, so it may read nothing of the tests.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

from fleet.client import Client
from fleet.errors import FleetError
from fleet.netctl_api import Connect, NetctlStatus, Proved, Rotate, Status, Tunnel
from fleet.wire import Done

IPV6_FREEBIND = 78
"""linux/in6.h; Python has no name for it."""
client = Client(Path(sys.argv[2]), timeout_seconds=60)


def ask(order: dict[str, Any]) -> Any:
    """What netctl answers."""
    if order["do"] == "connect":
        client.open(wait_seconds=20)
        return client.ask(Connect(resume=order.get("resume")), Tunnel).model_dump(mode="json")
    if order["do"] == "rotate":
        return client.ask(Rotate(), Tunnel).model_dump(mode="json")
    if order["do"] == "proved":
        return client.ask(Proved(address=order["address"]), Done).model_dump(mode="json")
    if order["do"] == "status":
        return client.ask(Status(), NetctlStatus).model_dump(mode="json")
    return net(order)


def net(order: dict[str, Any]) -> Any:
    """What the network does for this UID."""
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_DGRAM}[order["do"]]
    family = socket.AF_INET6 if ":" in order["host"] else socket.AF_INET
    ping = (socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP) if order["do"] == "icmp" else 0
    with socket.socket(family, kind, ping) as made:
        made.settimeout(order.get("timeout", 1))
        if order.get("device"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, order["device"].encode())
        if order.get("freebind"):
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        if order.get("source"):
            made.bind((order["source"], 0))
        made.connect((order["host"], order.get("port", 443)))
        if order["do"] == "icmp":
            made.send(bytes([128 if family == socket.AF_INET6 else 8, 0, 0, 0, 0, 1, 0, 1]) + b"probe")
            return {"received": len(made.recv(100))}
        if order["do"] == "udp":
            made.send(bytes.fromhex(order.get("data", "70726f6265")))
            return {"received": made.recv(2000).hex()} if order.get("data") else {}
        return {"from": made.getsockname()[0]}


for text in sys.stdin:
    try:
        answer = {"ok": ask(json.loads(text))}
    except FleetError as error:
        answer = {"error": type(error).__name__, "message": error.message, "data": error.data}
    except OSError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
