"""Today's habit, as a positive control: for every loop of a worker its interface is deleted and made again.

`wg-quick down` and `up` did that: the interface comes back with its address, in the host's
namespace, where every browser of the machine sees the address events. The demo's zeros mean something only
if this, beside the same browsers and the same site, loses pages.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from ipaddress import IPv4Address

from fleet import log
from fleet.model import Paths, Worker
from lab.topology import brought_up
from lab.wires import batch, beside

_LOOK_SECONDS = 0.05
_FIRST_ADDRESS = IPv4Address("192.0.2.0")
_log = log.get("lab")


def habit(namespace: str, members: Sequence[Worker], paths: Paths) -> AbstractContextManager[None]:
    """While entered, repeats the habit for MEMBERS in NAMESPACE: once at first, then at each new loop."""
    return beside(namespace, partial(_keep, namespace, tuple(members), paths))


def _keep(namespace: str, members: Sequence[Worker], paths: Paths, ending: threading.Event) -> None:
    finished = dict.fromkeys(members, -1)
    while not ending.wait(_LOOK_SECONDS):
        for worker in members:
            # A stored result shows that the worker's next loop begins.
            count = sum(1 for _ in paths.spool(worker).glob("*.json"))
            if count != finished[worker]:
                _make_again(namespace, worker, first=finished[worker] < 0)
                finished[worker] = count


def _make_again(namespace: str, worker: Worker, *, first: bool) -> None:
    """Delete WORKER's interface `oldN`, unless this is the FIRST, and make it again, up, with its address."""
    name = f"old{worker.number}"
    gone = [] if first else [f"link delete {name}"]
    made = [f"link add {name} type veth peer name {name}p", f"link set {name}p up"]
    batch(namespace, [*gone, *made, *brought_up(name, [f"{_FIRST_ADDRESS + worker.number % 250}/32"])])
    _log.debug("habit.interface_made_again", worker=worker.name, interface=name)
