"""What the hub, which has no right of its own, asks of the programs that have one: each has a table of what it may."""

from __future__ import annotations

from pathlib import Path

from fleet.acts_api import Start, Stop
from fleet.client import Client
from fleet.model import Paths
from fleet.netctl_api import AnotherExit
from fleet.wire import Done, ReplyT, Request

ANSWER_SECONDS = 40.0
"""netctl waits for a worker that is getting a tunnel."""


class Doors:
    """Every method blocks, and raises the error that comes back, or Unavailable."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def act(self, what: str, worker: str) -> None:
        """Stop, start or rotate WORKER."""
        if what == "rotate":
            _ask(self._paths.netctl_socket, AnotherExit(worker=worker), Done)
        else:
            _ask(self._paths.acts_socket, {"stop": Stop, "start": Start}[what](worker=worker), Done)


def _ask(path: Path, request: Request, kind: type[ReplyT]) -> ReplyT:
    with Client(path, timeout_seconds=ANSWER_SECONDS) as client:
        return client.ask(request, kind)
