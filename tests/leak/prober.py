"""Everything a program without privileges can send past a tunnel, as often as it can, not waiting for any answer.

Runs as `python -I -c TEXT PLAN`, under a worker's UID or a free one. PLAN is JSON: `{"probes": {NAME: [PROBE, ...]},
"seconds": s, "rounds": n}`; a PROBE has `kind` (tcp, udp, icmp), `host`, `port`, `payload` (hex), and for bound ones
`device` or `source`. Ends after that time, or that many rounds, with `{NAME: tries}`. A try that the kernel refuses
is one too: that is what is hoped for.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from typing import Any

IP_FREEBIND, IPV6_FREEBIND = 15, 78
"""linux/in.h, linux/in6.h: a source that is not ours needs no privilege. Python has no names for them."""
PAUSE_SECONDS = 0.01
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_DGRAM}


def attempt(probe: dict[str, Any]) -> None:
    """One try; raises OSError."""
    v6 = ":" in probe["host"]
    family = socket.AF_INET6 if v6 else socket.AF_INET
    ping = (socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) if probe["kind"] == "icmp" else 0
    with socket.socket(family, KINDS[probe["kind"]], ping) as made:
        made.setblocking(False)
        if probe.get("device"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, probe["device"].encode())
        if probe.get("source"):
            level, option = (socket.IPPROTO_IPV6, IPV6_FREEBIND) if v6 else (socket.IPPROTO_IP, IP_FREEBIND)
            made.setsockopt(level, option, 1)
            made.bind((probe["source"], 0))
        if probe["kind"] == "tcp":
            made.connect_ex((probe["host"], probe["port"]))
        else:
            made.sendto(bytes.fromhex(probe["payload"]), (probe["host"], probe["port"]))


def main() -> None:
    """Round after round."""
    plan = json.loads(sys.argv[1])
    tries = dict.fromkeys(plan["probes"], 0)
    end, rounds, never = time.monotonic() + plan["seconds"], plan["rounds"], threading.Event()
    while rounds > 0 and time.monotonic() < end:
        for name, probes in plan["probes"].items():
            for probe in probes:
                with contextlib.suppress(OSError):
                    attempt(probe)
                tries[name] += 1
        rounds -= 1
        never.wait(PAUSE_SECONDS)
    json.dump(tries, sys.stdout)


main()
