"""Listeners of root on the host's own addresses, which a worker must not reach; they record who connects."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping

from fleet.probes import Reach

_BIND = "import socket, sys; socket.socket(fileno=0).bind((sys.argv[1], int(sys.argv[2])))"


class Listeners:
    """A context manager: a TCP listener for each of ADDRESSES (name -> address, port; for port 0 the kernel picks one).

    OWNER is the UID that the ports are reserved for: only it may bind to them, so the bind runs under that UID.
    """

    def __init__(self, addresses: Mapping[str, tuple[str, int]], owner: int | None = None) -> None:
        self._wanted, self._owner = addresses, owner
        self._open: dict[int, tuple[str, socket.socket]] = {}
        self._came: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._serve, name="listeners", daemon=True)
        self.reaches: tuple[Reach, ...] = ()

    def __enter__(self) -> Listeners:
        reaches = []
        for name, address in self._wanted.items():
            made = self._listen(address)
            if made is not None:
                self._open[made.fileno()] = name, made
                reaches.append(Reach(name=name, address=address[0], port=made.getsockname()[1]))
        self.reaches = tuple(reaches)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_writer, b"w")
        self._thread.join()
        for _name, made in self._open.values():
            made.close()
        for descriptor in (self._wake_reader, self._wake_writer):
            os.close(descriptor)

    def came(self) -> dict[str, tuple[str, ...]]:
        """By listener: the peers' addresses of all connections since the last call, pending ones included."""
        for name, made in list(self._open.values()):
            self._accept(name, made)
        with self._lock:
            came, self._came = self._came, {}
        return {name: tuple(peers) for name, peers in came.items()}

    def _listen(self, address: tuple[str, int]) -> socket.socket | None:
        """A listening socket, or None when the host has no such address (IPv6) or the port is in use."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if self._owner is None:
                made.bind(address)
            else:
                command = [sys.executable, "-I", "-c", _BIND, *map(str, address)]
                subprocess.run(command, stdin=made.fileno(), stderr=subprocess.DEVNULL, user=self._owner, check=True)
            made.listen()
        except (OSError, subprocess.CalledProcessError):
            made.close()
            return None
        made.setblocking(False)
        return made

    def _serve(self) -> None:
        poll = select.poll()
        for descriptor in (self._wake_reader, *self._open):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake_reader in ready:
                return
            for descriptor in ready:
                self._accept(*self._open[descriptor])

    def _accept(self, name: str, made: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while True:
                connection, peer = made.accept()
                connection.close()
                with self._lock:
                    self._came.setdefault(name, []).append(str(peer[0]))
