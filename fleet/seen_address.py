"""Which address the world sees when this host or a worker sends: asked of the services in `[egress] urls`."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Iterable
from pathlib import Path

import httpcore
import httpx

from fleet.errors import Unproved
from fleet.model import EgressSettings
from fleet.wire import Address

IPV4, IPV6 = "0.0.0.0", "::"  # noqa: S104 - source wildcards that pick a family, nothing listens
_ANSWER_BYTES = 4096


assert httpcore  # httpx imports it, and half a dozen libraries more, at the first request: 0.1 s of the first proof


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

    def seen(self, source: str = IPV4) -> Address:
        """What the first service to answer sees, asked over the family of SOURCE; raises Unproved when none does."""
        mistakes: list[str] = []
        for url in self._settings.urls:
            try:
                return self._ask(url, source)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                mistakes.append(f"{url}: {error or type(error).__name__}")
        raise Unproved("\n".join(mistakes), hint="are egress.urls and dns.resolvers reached through the tunnel?")

    def _ask(self, url: str, source: str) -> Address:
        # A new client each time: a kept connection would still show the exit before. One family alone: a loop leases
        # and learns the IPv4 exit, and a service with both would be asked over IPv6 where the tunnel carries it.
        transport = httpx.HTTPTransport(verify=self._trust, trust_env=False, local_address=source)
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
