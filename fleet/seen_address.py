"""Which address the world sees when this host or a worker sends: asked of the services in `[egress] urls`.

A service is as little to be trusted as a page. Whatever it sends, it gets its time and its bytes and no more: one
deadline from the name to the last byte, nothing compressed, no redirect, and answers of several services must agree.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpcore
from httpcore._backends.sync import SyncStream

from fleet import log
from fleet.errors import Unproved
from fleet.model import EgressSettings
from fleet.wire import Address

IPV4, IPV6 = "IPv4", "IPv6"
_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
_ANSWER_BYTES = 4096
_CONNECTION_BYTES = 32_768
"""All that a service may send: its headers, those before them (1xx), the answer and its framing."""
_MISTAKE_CHARACTERS = 200
_HEADERS = (("Accept", "text/plain, application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "fleet"))
_LATE = "no answer in time"
Opened = Callable[[], socket.socket]
"""Gives a socket that is not connected yet: where it sends from, and through which device, is its maker's business."""
_log = log.get("fleet")


class Asker:
    """Asks the services; made once, because reading the authorities takes longer than asking."""

    def __init__(self, settings: EgressSettings, authorities: Iterable[Path], opened: Opened | None = None) -> None:
        """AUTHORITIES are PEM files of authorities that are trusted beside the system's.

        OPENED gives the socket of each question, in that question's thread; None: an ordinary one.
        """
        self._settings, self._opened = settings, opened
        self._trust = ssl.create_default_context()
        for path in authorities:
            self._trust.load_verify_locations(path)

    def seen(self, family: str = IPV4) -> Address:
        """What the services see, asked over the FAMILY, within `egress.timeout_seconds`. Blocks; for any thread.

        Raises Unproved when none answers, or when two answers differ. One that does not answer is logged.
        """
        until = time.monotonic() + self._settings.timeout_seconds
        asked = [
            _Question(url, family, self._trust, _Way(_FAMILIES[family], until, self._opened))
            for url in self._settings.urls
        ]
        for one in asked:
            one.start()
        for one in asked:
            one.join(max(0.0, until - time.monotonic()))
        answers = {one.name: one.answer for one in asked if one.answer is not None}
        mistakes = [f"{one.name}: {one.mistake}" for one in asked if one.answer is None]
        for one in asked:
            one.end()
        if not answers:
            raise Unproved("\n".join(mistakes), hint="are egress.urls and dns.resolvers reached through the tunnel?")
        if len(set(answers.values())) > 1:
            said = "; ".join(f"{name} sees {address}" for name, address in answers.items())
            raise Unproved(f"the services disagree: {said}", hint="take the one that is wrong out of egress.urls")
        for mistake in mistakes:
            _log.warning("exit_echo.down", reason=mistake)
        return next(iter(answers.values()))

    def seen_over(self, *families: str) -> tuple[tuple[Address, ...], str]:
        """What they see over each of FAMILIES, one after the other, and why there is no answer over the others."""
        found, troubles = [], []
        for family in families:
            try:
                found.append(self.seen(family))
            except Unproved as error:
                troubles.append(error.message)
        return tuple(found), "; ".join(troubles)


class _Question(threading.Thread):
    """One service, asked in a thread: a lookup of a name and a flood of TLS messages heed no deadline of ours."""

    def __init__(self, url: str, family: str, trust: ssl.SSLContext, way: _Way) -> None:
        super().__init__(daemon=True)
        self.name = url.partition("?")[0]  # behind it some services have a key
        self._url, self._family, self._trust, self._way = url, family, trust, way
        self.answer: Address | None = None
        self.mistake = _LATE

    def run(self) -> None:
        """Ask; `answer` or `mistake` says what came of it."""
        try:
            self.answer = self._ask()
        except httpcore.TimeoutException:
            pass  # its mistake is to be late
        except Exception as error:  # noqa: BLE001 - whatever a service makes of itself is that service's mistake
            words = str(error) or type(error).__name__
            self.mistake = "".join(one if one.isprintable() else " " for one in words)[:_MISTAKE_CHARACTERS]

    def _ask(self) -> Address:
        # A new connection each time: a kept one would still show the exit before.
        with (
            httpcore.ConnectionPool(self._trust, network_backend=self._way) as pool,
            pool.stream("GET", self._url, headers=_HEADERS) as answer,
        ):
            if answer.status != 200:  # a redirect is no answer: where it leads nobody has set
                raise ValueError(f"answered with status {answer.status}")
            if any(name.lower() == b"content-encoding" for name, _ in answer.headers):
                raise ValueError("answered with an encoding that nobody asked for")
            return self._parsed(answer)

    def _parsed(self, answer: httpcore.Response) -> Address:
        body = bytearray()
        for part in answer.iter_stream():
            body += part
            if len(body) > _ANSWER_BYTES:
                raise ValueError(f"answered with more than {_ANSWER_BYTES} bytes")
        address = parse_address(body.decode("ascii"))
        if f"IPv{address.version}" != self._family:
            raise ValueError(f"answered {address}, asked over {self._family}")
        return address

    def end(self) -> None:
        """The connection ends, whatever its thread is at."""
        self._way.end()


class _Way(httpcore.SyncBackend):
    """Connects over one address family, until a deadline.

    One family alone: a loop leases and learns the IPv4 exit, and a service with both would be asked over IPv6 where the
    tunnel carries it. A source to bind to is no way to say so: a worker may bind to its browser's ports alone.
    """

    def __init__(self, family: socket.AddressFamily, until: float, opened: Opened | None) -> None:
        self._family, self._until, self._opened = family, until, opened
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
        self._stream = _Bounded(SyncStream(made), self._until)
        return self._stream

    def end(self) -> None:
        """Shut the connection down under whoever uses it."""
        if self._stream is not None and (made := self._stream.get_extra_info("socket")) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(made, socket.SHUT_RDWR)  # not SSLSocket's own, which is for its user alone


class _Bounded(httpcore.NetworkStream):
    """A connection that ends at its deadline, however it drips, and after so many bytes."""

    def __init__(self, inner: httpcore.NetworkStream, until: float) -> None:
        self._inner, self._until = inner, until
        self._bytes = _CONNECTION_BYTES

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(min(max_bytes, _ANSWER_BYTES), _left(self._until))
        self._bytes -= len(data)
        if self._bytes < 0:
            raise httpcore.ReadError(f"sent more than {_CONNECTION_BYTES} bytes")
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
    """Seconds until the deadline; raises httpcore.ReadTimeout behind it."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise httpcore.ReadTimeout(_LATE)
    return seconds


def parse_address(text: str) -> Address:
    """The address in TEXT: itself, or JSON {"ip": ...}; raises ValueError."""
    words = text.strip()
    if words.startswith("{"):
        try:
            words = str(json.loads(words).get("ip", ""))
        except RecursionError:
            raise ValueError("no address, but JSON without end") from None
    try:
        address = ipaddress.ip_address(words)
    except ValueError:
        raise ValueError(f"no address: {words[:60]!a}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"no address of the world: {address}")
        return address.ipv4_mapped or address  # a service with one socket for both families
    return address
