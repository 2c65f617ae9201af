"""An address of a host that comes and goes, as Docker, NetworkManager or DHCP have it."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from pyroute2 import IPRoute

from lab.wires import inside

EACH_SECONDS = 0.5
"""From one change to the next: an address appears, half a second later it is gone, and so on."""
INTERFACE = "churn"
ADDRESS = "192.0.2.77"


class Changing:
    """While entered, an interface of NAMESPACE gets an address and loses it, in turn; nothing is left afterwards."""

    def __init__(self, namespace: str) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: inside(namespace, self._change), name="churn", daemon=True)

    def __enter__(self) -> Changing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _change(self) -> None:
        with IPRoute() as kernel:
            # It stays down: Chrome hears of its addresses all the same, and no link-local one comes by itself.
            kernel.link("add", ifname=INTERFACE, kind="veth", peer={"ifname": f"{INTERFACE}p"})
            (index,) = kernel.link_lookup(ifname=INTERFACE)
            try:
                self._in_turn(kernel, index)
            finally:
                kernel.link("del", index=index)

    def _in_turn(self, kernel: IPRoute, index: int) -> None:
        verb, due = "add", time.monotonic()
        while not self._ending.wait(max(0.0, due - time.monotonic())):
            kernel.addr(verb, index=index, address=ADDRESS, prefixlen=32)
            verb, due = ("del" if verb == "add" else "add"), due + EACH_SECONDS
