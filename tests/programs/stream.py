"""A worker that never stops: exchanges and a download through its tunnel, and every way past it, in a tight loop.

`python -m tests.programs.stream SOCKET WAYS`, SOCKET being netctl's and WAYS a JSON list (see sockets.py); with SOCKET
`-` it has no tunnel and only tries. Every line of its output is one JSON object with times of CLOCK_MONOTONIC, which
all processes share: `{"lease": id, "exit": address, "asked": t, "answered": t}`, `{"refused": error, "at": t, ...}`,
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
from pathlib import Path
from typing import Any

from fleet import log
from fleet.errors import FleetError
from lab.topology import WEB_ADDRESS
from tests.programs.sockets import Way, try_all
from worker.tunnel import Tunnel

SOCKET, WAYS = sys.argv[1], [Way(one) for one in json.loads(sys.argv[2])]
ECHO, BULK = (str(WEB_ADDRESS), 4480), (str(WEB_ADDRESS), 4481)
EXCHANGE_SECONDS = 0.5
PAUSE_SECONDS = 0.01
PROBE_SECONDS = 0.003
AGAIN_SECONDS = 0.2
"""How long a worker without a tunnel waits before it asks again."""
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
            with socket.create_connection(ECHO, timeout=EXCHANGE_SECONDS) as made:
                seen = made.recv(100).decode() or None
        except OSError as failed:
            error = str(failed)
        say(exchange=seen, began=began, ended=time.monotonic(), error=error, tries=tries)
        _never.wait(PAUSE_SECONDS)


def download() -> None:
    """A page that loads without an end: what is in flight when something happens is the kernel's to deal with."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(BULK, timeout=EXCHANGE_SECONDS) as made:
            while made.recv(65_536):
                pass
        _never.wait(PAUSE_SECONDS)


def probe() -> None:
    """All ways out, over and over."""
    global tries  # noqa: PLW0603 - one writer, read by the line of an exchange
    while True:
        tries += try_all(WAYS)
        _never.wait(PROBE_SECONDS)


log.configure()
for job in [probe] if SOCKET == "-" else [hold, exchange, download, probe]:
    threading.Thread(target=job, daemon=True).start()
say(started=time.monotonic())
for _ in sys.stdin:
    _rotate.set()
