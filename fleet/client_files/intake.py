"""Client files, and standard input, read with bounds of size and time; what is no file is named at once."""

from __future__ import annotations

import os
import select
import stat
import sys
import time

from fleet.client_files import text
from fleet.errors import UsageError

CONF_BYTES = 65_536
"""A client file has some 300 bytes; more is no client file."""
READ_SECONDS = 60.0
"""Who pipes one in may have to type a password first."""
_PROGRAM = "what comes out of a program is read from standard input: -"
_KINDS = {
    stat.S_ISDIR: "a folder: name the files in it, FOLDER/*.conf",
    stat.S_ISFIFO: f"a named pipe; {_PROGRAM}",
    stat.S_ISCHR: f"a device; {_PROGRAM}",
    stat.S_ISBLK: f"a device; {_PROGRAM}",
    stat.S_ISSOCK: f"a socket; {_PROGRAM}",
}


def read(name: str) -> str:
    """The text of the client file NAME (`-` is standard input).

    Raises OSError, or ValueError saying what is wrong with it.
    """
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal", hint="name the files, or pipe one in")
        return text.plain(_bounded(sys.stdin.fileno()))
    # Without waiting: to open a FIFO that nobody writes to would take for ever.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((word for is_one, word in _KINDS.items() if is_one(mode)), "something else")
            raise ValueError(f"is no file but {kind}")
        return text.plain(_bounded(descriptor))
    finally:
        os.close(descriptor)


def _bounded(descriptor: int) -> bytes:
    """All of it; raises ValueError where it is too long, or has no end."""
    data, end = b"", time.monotonic() + READ_SECONDS
    while len(data) <= CONF_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise ValueError(f"did not end within {READ_SECONDS:g} s")
        if not (chunk := os.read(descriptor, CONF_BYTES + 1)):
            return data
        data += chunk
    raise ValueError("is too long for a WireGuard client file")
