"""The differences between the two isolations: where a worker's tunnel is, and which capabilities netctl needs.

uid     everything in the host's network namespace; rules select by UID and by placeholder source
netns   each worker has its own namespace, like a small host with a fleet of one
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleet.numbers import Worker

HOST = ""
"""Stands for the host's network namespace, in place of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """One isolation; UID and NETNS are the only two."""

    name: Literal["uid", "netns"]
    capabilities: tuple[str, ...]
    """What netctl must have, in setpriv's words."""

    def space(self, worker: Worker) -> str:
        """The network namespace that holds WORKER's tunnel, rules and table: its own, or HOST."""
        return worker.space if self.name == "netns" else HOST

    def address_on(self, interface: str) -> str:
        """The interface that has the placeholder address for the tunnel INTERFACE.

        In the host's namespace that is `lo`: an address that goes with the tunnel would be an event for all browsers.
        """
        return interface if self.name == "netns" else "lo"


UID = Isolation(name="uid", capabilities=("net_admin",))
NETNS = Isolation(name="netns", capabilities=("net_admin", "sys_admin"))
ISOLATIONS = {one.name: one for one in (UID, NETNS)}
