"""Reads client files and standard input with bounds of size and time; refuses at once what is no regular file."""

from __future__ import annotations

import os
import select
import stat
import sys
import time

from fleet.client_files import text
from fleet.errors import UsageError

CONF_BYTES = 65_536
"""The longest accepted file; a client file has some 300 bytes."""
READ_SECONDS = 60.0
"""The program that pipes a file in may first ask for a password."""
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

    Raises OSError, UsageError for a terminal, or ValueError saying what is wrong with the file.
    """
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal", hint="name the files, or pipe one in")
        return text.plain(_bounded(sys.stdin.fileno()))
    # O_NONBLOCK: opening a FIFO without a writer would block forever.
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
    """All bytes; raises ValueError when there are too many, or no end within READ_SECONDS."""
    data, end = b"", time.monotonic() + READ_SECONDS
    while len(data) <= CONF_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise ValueError(f"did not end within {READ_SECONDS:g} s")
        if not (chunk := os.read(descriptor, CONF_BYTES + 1)):
            return data
        data += chunk
    raise ValueError("is too long for a WireGuard client file")
