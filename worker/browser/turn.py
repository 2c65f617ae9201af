"""Waits for a worker's turn to start its browser. netctl gives a limited number of turns at a time on this host.

Eight Chromes that start together on two cores take longer than in pairs, and each may exceed its time-out.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from fleet.errors import Unavailable
from fleet.sockets.client import Client
from fleet.sockets.netctl_api import TURN_WAIT_SECONDS, StartBrowser
from fleet.sockets.wire import Done
from worker.tunnel import AWAY_SECONDS, MARGIN_SECONDS

_PAUSE_SECONDS = 0.1


@contextlib.contextmanager
def of_mine(socket: Path) -> Iterator[None]:
    """Wait for a turn and hold it in the block, by a connection whose end ends the turn. Raises netctl's errors."""
    with contextlib.closing(Client(socket, timeout_seconds=TURN_WAIT_SECONDS + MARGIN_SECONDS)) as client:
        _wait(client)
        yield


def _wait(client: Client) -> None:
    """Ask for the turn and wait for it; if netctl ends meanwhile, ask the next one."""
    begun = there = time.monotonic()
    while True:
        try:
            client.open()
            try:
                client.ask(StartBrowser(), Done)
                return
            finally:
                there = time.monotonic()
        except Unavailable:
            answered = client.fileno() >= 0  # netctl itself has answered: there is no turn for us
            now = time.monotonic()
            if answered or now - there > AWAY_SECONDS or now - begun > TURN_WAIT_SECONDS:
                raise
        threading.Event().wait(_PAUSE_SECONDS)
