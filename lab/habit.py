"""Today's habit, as a positive control: for every loop of a worker its interface is deleted and made again.

That is what `wg-quick down` and `up` did: the interface comes back with its address, in the host's
namespace, where every browser of the machine hears of it. The zeros of the demo mean something only
if this, beside the same browsers and the same site, loses pages.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from ipaddress import IPv4Address

from fleet import log
from fleet.imports import bare
from fleet.model import Paths, Worker
from lab.wires import beside

with bare("pyroute2"):
    from pyroute2.iproute import IPRoute

_LOOK_SECONDS = 0.05
_FIRST_ADDRESS = IPv4Address("192.0.2.0")
_log = log.get("lab")


def habit(namespace: str, members: Sequence[Worker], paths: Paths) -> AbstractContextManager[None]:
    """While entered, keeps the habit for MEMBERS in NAMESPACE: once at first, then at each new loop."""
    return beside(namespace, partial(_keep, tuple(members), paths))


def _keep(members: Sequence[Worker], paths: Paths, ending: threading.Event) -> None:
    finished = dict.fromkeys(members, -1)
    with IPRoute() as kernel:
        while not ending.wait(_LOOK_SECONDS):
            for worker in members:
                # A result handed in is the sign that the worker's next loop begins.
                count = sum(1 for _ in paths.spool(worker).glob("*.json"))
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
