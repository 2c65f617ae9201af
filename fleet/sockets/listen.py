"""A listening Unix socket that accepts connections at a bounded cost.

Not asyncio's server: there every connection costs a task, a transport and two streams before it can be
refused, and a caller that connects and hangs up in a loop takes all of the event loop's time.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from fleet.errors import ConfigurationError
from fleet.log import Logger
from fleet.sockets.callers import peer_of

BACKLOG = 512
"""The maximal number of workers, which all connect at once after a restart of netctl."""
AT_ONCE = 16
PAUSE_SECONDS = 0.001
"""After a full round with refusals, so that a flood costs only a part of a processor."""
SHORTAGE_SECONDS = 0.1
"""Pause when accept() finds no free descriptor; a connection may have ended by then."""


class Listener:
    """One socket file; it listens from the construction on."""

    def __init__(self, path: Path, mode: int, let_in: Callable[[socket.socket], bool], logger: Logger) -> None:
        """LET_IN takes a connection over, or closes it and returns False. Raises ConfigurationError."""
        refuse_if_served(path)
        path.unlink(missing_ok=True)
        self._let_in = let_in
        self._log = logger
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        umask = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(umask)
        path.chmod(mode)
        self._socket.listen(BACKLOG)
        self._watch()

    def close(self) -> None:
        """Stop listening; the file stays."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _watch(self) -> None:
        if self._socket.fileno() >= 0:  # else closed during a pause
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.call_later(seconds, self._watch)

    def _accept(self) -> None:
        """Accept up to AT_ONCE connections, so that open ones are served in between."""
        refused = 0
        for _ in range(AT_ONCE):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log.error("accept.failed", error=str(error))
                self._pause(SHORTAGE_SECONDS)
                return
            refused += not self._let_in(connection)
        if refused:
            self._pause(PAUSE_SECONDS)


def refuse_if_served(path: Path) -> None:
    """Raise ConfigurationError when a program answers at PATH; a socket file without one is stale."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        holder = peer_of(probe).pid
    raise ConfigurationError(f"{path} is already served by process {holder}", hint=f"stop it first: kill {holder}")
