"""Today's habit, as a positive control: for every loop of a worker its interface is deleted and made again.

That is what `wg-quick down` and `up` did: the interface comes back with its address, in the host's
namespace, where every browser of the machine hears of it. The zeros of the demo mean something only
if this, beside the same browsers and the same site, loses pages.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from ipaddress import IPv4Address
from types import TracebackType

from pyroute2 import IPRoute

from fleet import log
from fleet.model import Paths, Worker
from lab.wires import inside

_LOOK_SECONDS = 0.05
_FIRST_ADDRESS = IPv4Address("192.0.2.0")
_log = log.get("lab")


class Habit:
    """While entered, keeps the habit for MEMBERS in NAMESPACE: once at first, then at each new loop."""

    def __init__(self, namespace: str, members: Sequence[Worker], paths: Paths) -> None:
        self._members = tuple(members)
        self._paths = paths
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: inside(namespace, self._keep), name="habit", daemon=True)

    def __enter__(self) -> Habit:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _keep(self) -> None:
        finished = dict.fromkeys(self._members, -1)
        with IPRoute() as kernel:
            while not self._ending.wait(_LOOK_SECONDS):
                for worker in self._members:
                    # A result handed in is the sign that the worker's next loop begins.
                    count = sum(1 for _ in self._paths.spool(worker).glob("*.json"))
                    if count != finished[worker]:
                        finished[worker] = count
                        make_again(kernel, worker)


def make_again(kernel: IPRoute, worker: Worker) -> None:
    """Delete WORKER's interface `oldN` and make it again, up, with its address."""
    name = f"old{worker.number}"
    for index in kernel.link_lookup(ifname=name):
        kernel.link("del", index=index)
    kernel.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}p"})
    (index,) = kernel.link_lookup(ifname=name)
    (peer,) = kernel.link_lookup(ifname=f"{name}p")
    kernel.addr("add", index=index, address=str(_FIRST_ADDRESS + worker.number % 250), prefixlen=32)
    for end in (peer, index):
        kernel.link("set", index=end, state="up")
    _log.debug("habit.interface_made_again", worker=worker.name, interface=name)
