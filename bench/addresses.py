"""An address of a host that appears and disappears, as with Docker, NetworkManager or DHCP."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager

from pyroute2.iproute import IPRoute

from lab.wires import beside

EACH_SECONDS = 0.5
"""Between two changes: an address appears, half a second later it disappears, and so on."""
INTERFACE = "churn"
ADDRESS = "192.0.2.77"


def changing(namespace: str) -> AbstractContextManager[None]:
    """While entered, an interface of NAMESPACE gets an address and loses it, in turn; nothing is left afterwards."""
    return beside(namespace, _change)


def _change(ending: threading.Event) -> None:
    with IPRoute() as kernel:
        # It stays down: Chrome still sees its address events, and no link-local address appears.
        kernel.link("add", ifname=INTERFACE, kind="veth", peer={"ifname": f"{INTERFACE}p"})
        (index,) = kernel.link_lookup(ifname=INTERFACE)
        try:
            _in_turn(kernel, index, ending)
        finally:
            kernel.link("del", index=index)


def _in_turn(kernel: IPRoute, index: int, ending: threading.Event) -> None:
    verb, due = "add", time.monotonic()
    while not ending.wait(max(0.0, due - time.monotonic())):
        kernel.addr(verb, index=index, address=ADDRESS, prefixlen=32)
        verb, due = ("del" if verb == "add" else "add"), due + EACH_SECONDS
