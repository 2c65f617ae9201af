"""The lab's small internet with a bridge and a DHCP server in the place of the wire to its host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lab.net import Lab
from lab.topology import HOST_ADDRESS, ISP_RESOLVER, ROUTER_ADDRESS
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
        """`access` becomes a bridge; the lab's own host has no wire any more."""
        ((access, _), *_) = self.lab.topology.wires
        self._ip("link", "delete", "access")
        self._ip("link", "add", "access", "type", "bridge", "forward_delay", "0")
        for address in access.addresses:
            self._ip("address", "add", str(address), "dev", "access", *(("nodad",) if address.version == 6 else ()))
        self._ip("link", "set", "access", "up")

    def serve(self, address: str = str(HOST_ADDRESS)) -> None:
        """From here on a host that asks is given ADDRESS, and is refused another that it had."""
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
        until("the DHCP server", lambda: DHCP_PORT in self._run("cat", "/proc/net/udp"))

    def hang_up(self) -> None:
        """No DHCP server any more."""
        if self._dhcp is not None:
            self._dhcp.kill()
            self._dhcp.wait(10)
            self._dhcp = None

    def answer_names(self, yes: bool) -> None:
        """Whether the ISP's resolver answers, or is silent."""
        silent = "table inet silent { chain input { type filter hook input priority 0; udp dport 53 drop; }; }"
        into = ("nsenter", f"--net=/run/netns/{self.namespace}", "nft")
        subprocess.run([*into, "delete table inet silent" if yes else silent], check=True)

    def unplug(self) -> None:
        """Whoever is at the other end of the line has no carrier."""
        self._plug("down")

    def plug(self) -> None:
        """It has one again."""
        self._plug("up")

    def _plug(self, state: str) -> None:
        listed = self._run("ip", "-oneline", "link", "show", "master", "access")
        for line in listed.splitlines():
            self._ip("link", "set", line.split()[1].partition("@")[0].rstrip(":"), state)

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", "-n", self.namespace, *words], check=True)

    def _run(self, *words: str) -> str:
        into = ("nsenter", f"--net=/run/netns/{self.namespace}")
        return subprocess.run([*into, *words], capture_output=True, text=True, check=True).stdout


@contextmanager
def standing(name: str) -> Iterator[Access]:
    """It stands, and a host that asks gets an address."""
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
