"""netctl observes objects correctly that the kernel adds in several steps."""

from __future__ import annotations

import socket
from contextlib import closing
from ipaddress import IPv6Address

from fleet.backends import USERSPACE
from fleet.imports import bare
from lab.net import Lab
from lab.wires import inside
from netctl.kernel import rtnetlink
from netctl.kernel.netlink import ROUTE, Socket
from netctl.kernel.observe import Observer
from tests.contract.ground import fleet_of

with bare("pyroute2"):
    from pyroute2.iproute import IPRoute

TRIES = 500


def test_an_address_that_was_just_added_is_there(lab: Lab) -> None:
    """Also before the kernel has added its local route; reading routes before addresses misses some (control)."""
    fleet = fleet_of(1)
    (worker,) = fleet.members
    placeholder = str(worker.placeholder_v6)

    def routed(netlink: Socket) -> bool:
        """Whether it would be seen if routes were read first."""
        bodies = netlink.dump(rtnetlink.GET_ROUTE, rtnetlink.all_of(socket.AF_INET6))
        return IPv6Address(placeholder) in {rtnetlink.read_local(body) for body in bodies}

    def misses() -> tuple[int, int]:
        """How often netctl's order and the control's miss the placeholder, out of TRIES each."""
        missed = [0, 0]
        with closing(Socket(ROUTE)) as netlink, IPRoute() as ip:
            lo, observer = ip.link_lookup(ifname="lo")[0], Observer(fleet.members, USERSPACE)
            for number in range(2 * TRIES):
                ip.addr("add", index=lo, address=placeholder, prefixlen=128)
                control = number % 2
                seen = routed(netlink) if control else placeholder in str(observer.look(netlink).things)
                missed[control] += not seen
                ip.addr("del", index=lo, address=placeholder, prefixlen=128)
        return missed[0], missed[1]

    found = inside(f"{lab.name}-host", misses)
    assert found[0] == 0 < found[1], found
