"""A worker that never stops: exchanges and a download through its tunnel, and every way past it, in a tight loop.

Runs under the worker's UID as `python -I -c TEXT RELEASE SOCKET DEVICE`; with SOCKET `-` it has no tunnel and
only tries. Every line of its output is one JSON object with times of CLOCK_MONOTONIC, which all processes share:
`{"lease": id, "exit": address, "asked": t, "answered": t}`, `{"refused": error, "at": t, ...}`,
`{"exchange": address or null, "began": t, "ended": t, "error": text, "tries": n}`. A line on its input is an order
to rotate.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

from fleet import log
from fleet.errors import FleetError
from worker.tunnel import Tunnel

SOCKET, DEVICE = sys.argv[2], sys.argv[3].encode()
WEB, WEB_V6, RESOLVER, HOST = "203.0.113.80", "2001:db8:2::80", "198.51.100.53", "198.51.100.10"
ECHO, BULK, TCP, SINK = 4480, 4481, 4443, 4444
EXCHANGE_SECONDS = 0.5
PAUSE_SECONDS = 0.01
PROBE_SECONDS = 0.003
AGAIN_SECONDS = 0.2
"""How long a worker without a tunnel waits before it asks again."""
ECHO_REQUEST, ECHO_REQUEST_V6 = bytes([8, 0, 0, 0, 0, 1, 0, 1]), bytes([128, 0, 0, 0, 0, 1, 0, 1])
_output = threading.Lock()
_rotate = threading.Event()
_never = threading.Event()
tries = 0


def say(**line: Any) -> None:
    """One line for the test."""
    with _output:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def hold() -> None:
    """Have a tunnel, always: another when it is lost, another when the test says so."""
    with Tunnel(Path(SOCKET), deadline_seconds=20) as tunnel:
        while True:
            _rotate.clear()
            asked = time.monotonic()
            try:
                made, _ = tunnel.fresh()
            except FleetError as error:
                say(refused=type(error).__name__, message=error.message, asked=asked, at=time.monotonic())
                _rotate.wait(AGAIN_SECONDS)
                continue
            say(lease=made.lease, exit=str(made.exit_address), asked=asked, answered=time.monotonic())
            while tunnel.current is not None and not _rotate.wait(0.02):
                pass
            if tunnel.current is None:
                say(lost=made.lease, at=time.monotonic())


def exchange() -> None:
    """Small exchanges with the web host, one after the other; each says which address was seen."""
    while True:
        began, seen, error = time.monotonic(), None, ""
        try:
            with socket.create_connection((WEB, ECHO), timeout=EXCHANGE_SECONDS) as made:
                seen = made.recv(100).decode() or None
        except OSError as failed:
            error = str(failed)
        say(exchange=seen, began=began, ended=time.monotonic(), error=error, tries=tries)
        _never.wait(PAUSE_SECONDS)


def download() -> None:
    """A page that loads without an end: what is in flight when something happens is the kernel's to deal with."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((WEB, BULK), timeout=EXCHANGE_SECONDS) as made:
            while made.recv(65_536):
                pass
        _never.wait(PAUSE_SECONDS)


class Datagrams:
    """One socket, used again and again."""

    def __init__(self, target: tuple[str, int], data: bytes, *, connected: bool = False, **how: Any) -> None:
        self._target, self._data, self._connected, self._how = target, data, connected, how
        self._socket: socket.socket | None = None

    def __call__(self) -> None:
        """Send one; a socket that was ended is made again."""
        if self._socket is None:
            self._socket = opened(self._target[0], socket.SOCK_DGRAM, **self._how)
            if self._connected:
                self._socket.connect(self._target)
        try:
            if self._connected:
                self._socket.send(self._data)
            else:
                self._socket.sendto(self._data, self._target)
        except OSError:
            if self._connected:
                self._socket.close()
                self._socket = None
            raise


def opened(host: str, kind: int, *, protocol: int = 0, device: bytes = b"", source: str = "") -> socket.socket:
    """A socket that does not wait, bound to a device or to an address if asked."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind, protocol)
    made.setblocking(False)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    if source:
        made.bind((source, 0))
    return made


def knock(host: str, **how: Any) -> Callable[[], None]:
    """A fresh TCP connection each time, not waited for."""

    def once() -> None:
        with opened(host, socket.SOCK_STREAM, **how) as made:
            made.connect_ex((host, TCP))

    return once


def probes() -> list[Callable[[], None]]:
    """Every way out that a program without privileges can try."""
    ping, ping6 = socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6
    made: list[Callable[[], None]] = [Datagrams((WEB, SINK), b"connected", connected=True)]
    ways: list[dict[str, Any]] = [{}, {"device": DEVICE}, {"source": HOST}]
    for how in ways:
        made += [
            Datagrams((WEB, SINK), b"free", **how),
            Datagrams(
                (RESOLVER, 53), b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01", **how
            ),
            Datagrams((RESOLVER, 0), ECHO_REQUEST, protocol=ping, **how),
            knock(WEB, **how),
        ]
    for how in ways[:2]:
        made += [
            Datagrams((WEB_V6, SINK), b"free", **how),
            Datagrams((WEB_V6, 0), ECHO_REQUEST_V6, protocol=ping6, **how),
            knock(WEB_V6, **how),
        ]
    return made


def probe() -> None:
    """All of them, over and over; that one fails is what is hoped for."""
    global tries  # noqa: PLW0603 - one writer, read by the line of an exchange
    ways = probes()
    while True:
        for way in ways:
            with contextlib.suppress(OSError):
                way()
            tries += 1
        _never.wait(PROBE_SECONDS)


log.configure()
jobs = [probe] if SOCKET == "-" else [hold, exchange, download, probe]
for job in jobs:
    threading.Thread(target=job, daemon=True).start()
say(started=time.monotonic())
for _ in sys.stdin:
    _rotate.set()
