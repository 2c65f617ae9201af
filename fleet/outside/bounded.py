"""Connections for httpcore over one address family, bounded by a deadline (even if bytes trickle in) and in bytes.

Only one family: a loop leases and learns the IPv4 exit, and a service with both would be asked over IPv6 where the
tunnel carries it. Binding to a source address cannot select it: a worker may bind only to its browser's ports.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

from fleet.imports import absent

with absent("trio", "h2"):
    import httpcore
    from httpcore._backends.sync import SyncStream

READ_BYTES = 4096
_LATE = "no answer in time"
Opened = Callable[[], socket.socket]
"""Returns an unconnected socket; its maker decides from which address and through which device it sends."""


class Way(httpcore.SyncBackend):
    """Connects over one address family, until a deadline."""

    def __init__(
        self, family: socket.AddressFamily, until: float, opened: Opened | None = None, *, most_bytes: int
    ) -> None:
        """MOST_BYTES bounds all that the other side sends: interim responses (1xx), headers, answer and framing."""
        self._family, self._until, self._opened, self._most_bytes = family, until, opened, most_bytes
        self._stream: httpcore.NetworkStream | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of HOST in this family; raises httpcore.ConnectError or its time-out."""
        try:
            found = socket.getaddrinfo(host, port, self._family, socket.SOCK_STREAM)
            made = self._opened() if self._opened else socket.socket(self._family, socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        try:
            made.settimeout(_left(self._until))
            made.connect(found[0][4])
        except OSError as error:
            made.close()
            kind = httpcore.ConnectTimeout if isinstance(error, TimeoutError) else httpcore.ConnectError
            raise kind(str(error)) from error
        self._stream = Bounded(SyncStream(made), self._until, self._most_bytes)
        return self._stream

    def end(self) -> None:
        """Shut the connection down, even while another thread uses it."""
        if self._stream is not None and (made := self._stream.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(made, socket.SHUT_RDWR)  # SSLSocket's own is only for the thread that uses it


class Bounded(httpcore.NetworkStream):
    """A connection that ends at its deadline, even if bytes trickle in, and after a number of bytes."""

    def __init__(self, inner: httpcore.NetworkStream, until: float, most_bytes: int) -> None:
        self._inner, self._until, self._left, self._most = inner, until, most_bytes, most_bytes

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(min(max_bytes, READ_BYTES), _left(self._until))
        self._left -= len(data)
        if self._left < 0:
            raise httpcore.ReadError(f"sent more than {self._most} bytes")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(self._until))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        self._inner = self._inner.start_tls(ssl_context, server_hostname, _left(self._until))
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()


def _left(until: float) -> float:
    """Seconds until the deadline; raises httpcore.ReadTimeout after it."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout(_LATE)
    return seconds
