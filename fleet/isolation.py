"""What the two isolations differ in, as values: where a worker's tunnel lives, and what netctl needs for that.

uid     everything in the host's network namespace; rules select by UID and by placeholder source
netns   a namespace of its own for each worker: a small host with a fleet of one
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleet.numbers import Worker

HOST = ""
"""The host's network namespace, where a worker's own has a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """One of the two; UID and NETNS are all there are."""

    name: Literal["uid", "netns"]
    capabilities: tuple[str, ...]
    """What netctl must have, in setpriv's words."""

    def space(self, worker: Worker) -> str:
        """The network namespace that holds WORKER's tunnel, rules and table: its own, or HOST."""
        return worker.space if self.name == "netns" else HOST

    def address_on(self, interface: str) -> str:
        """Where the placeholder source of the tunnel through INTERFACE lies.

        In the host's namespace not on the interface: an address that goes with it would be an event for everybody.
        """
        return interface if self.name == "netns" else "lo"


UID = Isolation(name="uid", capabilities=("net_admin",))
NETNS = Isolation(name="netns", capabilities=("net_admin", "sys_admin"))
ISOLATIONS = {one.name: one for one in (UID, NETNS)}
