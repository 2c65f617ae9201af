"""The lab's small internet with a bridge and a DHCP server instead of the wire to its host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lab import wires
from lab.net import Lab
from lab.topology import ACCESS, HOST_ADDRESS, ISP_RESOLVER, ROUTER_ADDRESS, brought_up
from tests.waiting import until

SERVERS, KEYS = 2, 4
DHCP_PORT = ":0043 "
"""67, as /proc/net/udp has it."""


class Access:
    """The ISP's end of the line."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.namespace = lab, lab.topology.namespace("isp")
        self._dhcp: subprocess.Popen[bytes] | None = None

    def lay(self) -> None:
        """Make `access` a bridge; the lab's own host loses its wire."""
        bridge = ("link delete access", "link add access type bridge forward_delay 0")
        wires.batch(self.namespace, (*bridge, *brought_up("access", ACCESS)))

    def serve(self, address: str = str(HOST_ADDRESS)) -> None:
        """From now on give ADDRESS to a host that asks, and refuse any other that it had."""
        self.hang_up()
        words = (
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=0"),
            *("--interface=access", "--bind-interfaces", "--dhcp-authoritative", "--dhcp-leasefile=/dev/null"),
            *("--leasefile-ro", f"--dhcp-range={address},{address},255.255.255.0,2m", "--no-ping"),
            *(f"--dhcp-option=option:router,{ROUTER_ADDRESS}", f"--dhcp-option=option:dns-server,{ISP_RESOLVER}"),
        )
        into = ("nsenter", f"--net=/run/netns/{self.namespace}")
        null = subprocess.DEVNULL
        self._dhcp = subprocess.Popen([*into, *words], stdin=null, stdout=null, stderr=null)
        until("the DHCP server", lambda: DHCP_PORT in wires.tell(self.namespace, ("cat", "/proc/net/udp")))

    def hang_up(self) -> None:
        """Stop the DHCP server."""
        if self._dhcp is not None:
            self._dhcp.kill()
            self._dhcp.wait(10)
            self._dhcp = None

    def answer_names(self, yes: bool) -> None:
        """Make the ISP's resolver answer (YES), or be silent."""
        silent = "table inet silent { chain input { type filter hook input priority 0; udp dport 53 drop; }; }"
        wires.tell(self.namespace, ("nft", "delete table inet silent" if yes else silent))

    def unplug(self) -> None:
        """Take the carrier from the other end of the line."""
        self._plug("down")

    def plug(self) -> None:
        """Give it the carrier again."""
        self._plug("up")

    def _plug(self, state: str) -> None:
        listed = wires.tell(self.namespace, ("ip", "-oneline", "link", "show", "master", "access")).splitlines()
        names = (line.split()[1].partition("@")[0].rstrip(":") for line in listed)
        wires.batch(self.namespace, (f"link set {name} {state}" for name in names))


@contextmanager
def standing(name: str) -> Iterator[Access]:
    """While entered, the line works, and a host that asks gets an address."""
    lab = Lab(name, servers=SERVERS, keys=KEYS)
    lab.up()
    access = Access(lab)
    try:
        access.lay()
        access.serve()
        yield access
    finally:
        access.hang_up()
        lab.down()
