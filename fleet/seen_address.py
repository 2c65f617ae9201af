"""Which address the world sees when this host or a worker sends: asked of the services in `[egress] urls`."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

import httpcore
import httpx

from fleet.errors import Unproved
from fleet.model import EgressSettings
from fleet.wire import Address

IPV4, IPV6 = "IPv4", "IPv6"
_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
_ANSWER_BYTES = 4096


class _OneFamily(httpcore.SyncBackend):
    """Connects over one address family."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self._family = family

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of HOST in this family; raises httpcore.ConnectError."""
        try:
            found = socket.getaddrinfo(host, port, self._family, socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        return super().connect_tcp(str(found[0][4][0]), port, timeout, local_address, socket_options)


class Asker:
    """Asks the services; made once, because reading the authorities takes longer than asking."""

    def __init__(self, settings: EgressSettings, authorities: Iterable[Path]) -> None:
        """AUTHORITIES are PEM files of authorities that are trusted beside the system's."""
        self._settings = settings
        self._trust = ssl.create_default_context()
        for path in authorities:
            self._trust.load_verify_locations(path)
        # httpx imports what it sends with at the first client: 130 ms that belong to no loop.
        httpx.Client(verify=self._trust, trust_env=False).close()

    def seen(self, family: str = IPV4) -> Address:
        """What the first service to answer sees, asked over the FAMILY; raises Unproved when none does."""
        mistakes: list[str] = []
        for url in self._settings.urls:
            try:
                return self._ask(url, family)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                mistakes.append(f"{url}: {error or type(error).__name__}")
        raise Unproved("\n".join(mistakes), hint="are egress.urls and dns.resolvers reached through the tunnel?")

    def _ask(self, url: str, family: str) -> Address:
        # A new client each time: a kept connection would still show the exit before. One family alone: a loop leases
        # and learns the IPv4 exit, and a service with both would be asked over IPv6 where the tunnel carries it.
        transport = httpx.HTTPTransport(verify=self._trust, trust_env=False)
        # httpx has no word for a family but a source to bind to, and a worker may bind to its browser's ports alone.
        transport._pool = httpcore.ConnectionPool(self._trust, network_backend=_OneFamily(_FAMILIES[family]))
        with httpx.Client(
            transport=transport, timeout=self._settings.timeout_seconds, trust_env=False, follow_redirects=True
        ) as client:
            answer = client.get(url)
            answer.raise_for_status()
            return parse_address(answer.text[:_ANSWER_BYTES])


def parse_address(text: str) -> Address:
    """The address in TEXT: itself, or JSON {"ip": ...}; raises ValueError."""
    words = text.strip()
    if words.startswith("{"):
        words = str(json.loads(words).get("ip", ""))
    return ipaddress.ip_address(words)
