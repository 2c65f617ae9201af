"""A client of a program's socket (fleet.sockets.rpc): plain blocking code, as workers are blocking programs."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

from fleet.errors import NotAllowed, Unavailable
from fleet.sockets import wire


def _parts(seconds: float) -> tuple[int, int]:
    """The fields of a struct timeval; at least 1 µs, because zero means no time-out."""
    return int(seconds), max(1, int(seconds % 1 * 1e6))


class Client:
    """A blocking client of one connection; a context manager."""

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self.path = path
        self.timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._buffer = b""

    def open(self) -> None:
        """Connect; raises Unavailable when no program listens, NotAllowed when the file's mode forbids it."""
        self.close()
        fresh = socket.socket(socket.AF_UNIX)
        try:
            # With Python's time-out connect fails at once while the backlog is full; with the kernel's it waits.
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *_parts(self.timeout_seconds)))
            fresh.connect(str(self.path))
            fresh.settimeout(self.timeout_seconds)
        except PermissionError as error:
            fresh.close()
            raise NotAllowed(f"{self.path}: this user may not open it", hint="run as root") from error
        except OSError as error:
            fresh.close()
            raise Unavailable(
                f"no program answers at {self.path}: {error.strerror}", hint="is it running? fleet status"
            ) from error
        self._socket = fresh

    def ask(self, request: wire.Request, kind: type[wire.ReplyT]) -> wire.ReplyT:
        """Send REQUEST and wait for its reply; raises the error in the reply, or Unavailable."""
        if self._socket is None:
            raise Unavailable(f"not connected to {self.path}")
        try:
            with contextlib.suppress(BrokenPipeError):  # the server may have sent a reason before it hung up
                self._socket.sendall(wire.encode_request(request))
            return wire.decode_reply(self._line(self._socket), kind)
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.path} went away: {error}") from error

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            chunk = connection.recv(wire.FRAME_BYTES)
            if not chunk or len(self._buffer) > wire.REPLY_BYTES:
                raise ConnectionResetError("closed by the other side")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def fileno(self) -> int:
        """The socket's descriptor, for select; -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the connection; what belongs to it (a lease) is released."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def __enter__(self) -> Client:
        if self._socket is None:
            self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
