"""What went past the tunnels: tcpdump outside of the host, at the ISP's end of its uplink, all the time.

Whatever goes through a tunnel passes there as WireGuard's UDP to a VPN server. That, and what the host says to
its neighbours on the wire, is left out; everything else is a leak. A mark, sent by a UID that is no worker, proves
between two faults that the capture still sees.
"""

from __future__ import annotations

import re
import subprocess
import threading

from fleet.model import Worker
from lab.topology import WEB_ADDRESS, WIREGUARD_PORT
from tests.netns.ear import tcpdump
from tests.netns.netctl_rig import Rig
from tests.waiting import until

SERVERS = "203.0.113.0/27"
FREE = Worker(uid=4321)
"""A UID that is no worker's."""
FIRST_MARK = 20_000
ORDINARY = (
    f"(udp dst port {WIREGUARD_PORT} and dst net {SERVERS})",
    # The kernel's answer to a VPN server whose packet met no wireguard-go: it quotes WireGuard, nothing else.
    f"(icmp[0] = 3 and dst net {SERVERS} and icmp[28:2] = {WIREGUARD_PORT})",
    "arp",
    # Neighbours, routers and multicast groups of the wire itself (RFC 4861, 3810).
    "(icmp6 and ip6[40] >= 130 and ip6[40] <= 137)",
    "(ip6[6] = 0 and ip6[40] = 58 and ip6[48] = 143)",
)


class Capture:
    """Every packet of the host that is not ORDINARY, as tcpdump's lines."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._lines, self._marks = rig, list[str](), FIRST_MARK
        argv = tcpdump(f"not ({' or '.join(ORDINARY)})", "-tt", "-Q", "in")
        self._process = rig.lab.popen("isp", argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        rig.processes.append(self._process)
        assert self._process.stderr
        while "listening on" not in (line := self._process.stderr.readline()):
            assert line, "tcpdump ended"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._marker = rig.client_of(FREE)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip():
                self._lines.append(line.strip())

    def lines(self) -> list[str]:
        """Everything since the last call. A mark is sent and waited for first: what is asked about was seen."""
        self._marks += 1
        mark = f"{WEB_ADDRESS}.{self._marks}: UDP"

        def marked() -> int | None:
            self._marker.ask(do="udp", host=str(WEB_ADDRESS), port=self._marks)
            return next((number for number, line in enumerate(self._lines, 1) if mark in line), None)

        end = until("the capture sees the mark", marked, 10, lambda: self._lines[-5:])
        assert end
        found, self._lines = self._lines[:end], self._lines[end:]
        return [line for line in found if not re.search(rf"{WEB_ADDRESS}\.2\d{{4}}: UDP", line)]
