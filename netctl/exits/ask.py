"""Asks which address the internet sees, in its own process: `launch.py netctl.exits.ask [DESCRIPTOR...]`.

The DESCRIPTORs are sockets that lead through a tunnel; without them it asks without a tunnel, over IPv4 and IPv6. The
answer comes from an untrusted server through an untrusted VPN server. An attacker who takes over this process by an
answer finds no key in its memory, no capability and little processor time, and netctl goes on when the process ends.

Standard output: one JSON object, {"seen": [ADDRESS...], "trouble": "..."}.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys

from fleet import snapshot
from fleet.imports import absent
from fleet.machine import syscalls
from fleet.paths import Paths

with absent("anyio"):  # httpcore would import it for asyncio, which is not used here; it takes a sixth of each check
    from fleet.outside.seen_address import IPV4, IPV6, Asker

CPU_SECONDS, MEMORY_BYTES = 10, 1 << 30
_PATIENT = 20
"""The lowest priority: the handling of an answer from outside must not run with netctl's."""


def main() -> None:
    """Drop privileges, ask, print the answer."""
    syscalls.set_capabilities(syscalls.Capabilities(0, 0, 0))
    os.nice(_PATIENT)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    fleet = snapshot.read(Paths.from_environment().snapshot).fleet
    sockets = [socket.socket(fileno=int(one)) for one in sys.argv[1:]]
    asker = Asker(fleet.egress, fleet.browser.certificate_authorities, sockets.pop if sockets else None)
    seen, trouble = asker.seen_over(*((IPV4,) if sockets else (IPV4, IPV6)))
    sys.stdout.write(json.dumps({"seen": [*map(str, seen)], "trouble": trouble}))


if __name__ == "__main__":
    main()
