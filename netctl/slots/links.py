"""Knows which of its two names each worker's link has, and deletes links that were given up.

A kernel link cannot be killed, and its deletion may hang for ever. So the worker continues at once with the link's
other name, and the old link is quarantined: netctl ignores it while it is being deleted.
"""

from __future__ import annotations

import asyncio

from fleet import log
from fleet.errors import TunnelError
from fleet.model import Fleet, Worker
from netctl.host import Host
from netctl.plan.state import State

DELETE_AGAIN_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 600.0


class Links:
    """The links of all workers, by name; used from one asyncio loop."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self._fleet = fleet
        self._host = host
        self._spare: set[int] = set()
        self._quarantined: set[str] = set()
        self._deletions: set[asyncio.Task[None]] = set()
        self._log = log.get("netctl")

    @property
    def spare(self) -> frozenset[int]:
        """UIDs of the workers whose links have the spare name."""
        return frozenset(self._spare)

    @property
    def quarantined(self) -> frozenset[str]:
        """The links that were given up but still exist."""
        return frozenset(self._quarantined)

    def name(self, worker: Worker) -> str:
        """The name of WORKER's link: the usual one, or the spare."""
        return worker.spare_interface if worker.uid in self._spare else worker.interface

    def adopt(self, found: State) -> None:
        """Continue with the names that an earlier netctl used, as FOUND shows them."""
        self._spare = {worker.uid for worker in self._fleet.members if found.uses_spare(worker)}

    def give_up(self, worker: Worker) -> None:
        """Switch WORKER to its link's other name, and delete the old link in the background.

        Raises TunnelError while the link with the other name is still being deleted.
        """
        old, other = self.name(worker), next(name for name in worker.interfaces if name != self.name(worker))
        if other in self._quarantined:
            raise TunnelError(f"the links {old} and {other} are both stuck in the kernel", hint=f"ip link show {old}")
        self._quarantined.add(old)
        self._spare ^= {worker.uid}
        task = asyncio.ensure_future(self._delete(old, self._fleet.walls.space(worker)))
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _delete(self, interface: str, space: str) -> None:
        """Delete a quarantined link, no matter how long that takes."""
        pause = DELETE_AGAIN_SECONDS
        while not await self._host.delete_link(interface, space):
            self._log.error("link.stuck", interface=interface, again_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._quarantined.discard(interface)
        self._log.info("link.deleted", interface=interface)

    def close(self) -> None:
        """Stop deleting: the next netctl finds the links that still exist."""
        for task in self._deletions:
            task.cancel()
