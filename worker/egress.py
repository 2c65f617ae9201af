"""The exit proof: which address does the world see, asked through the worker's own sockets.

The worker works through no exit but the leased one. A key whose exit is not known yet teaches it at its
first proof, unless what is seen is the host itself: that would be a leak learned as the truth.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

import httpcore
import httpx

from fleet import log, netctl_api, wire
from fleet.errors import Unproved, WrongExit
from fleet.model import EgressSettings, Paths

_ANSWER_BYTES = 4096
_log = log.get("worker")


assert httpcore  # httpx imports it, and half a dozen libraries more, at the first request: 0.1 s of the first proof


class Prover:
    """Proves exits; made once, because reading the authorities takes longer than asking."""

    def __init__(self, settings: EgressSettings, paths: Paths, authorities: Path) -> None:
        self._settings = settings
        self._host = frozenset([*settings.host_addresses, *_addresses_in(paths.host_addresses)])
        self._context = ssl.create_default_context()
        if authorities.is_file() and authorities.stat().st_size:
            self._context.load_verify_locations(authorities)
        # httpx imports what it sends with at the first client: 130 ms that belong to no loop.
        httpx.Client(verify=self._context, trust_env=False).close()

    def seen(self) -> wire.Address:
        """The IPv4 address the first service that answers sees; raises Unproved when none does."""
        return self._first("0.0.0.0")  # noqa: S104 - a source wildcard that picks a family, nothing listens

    def seen_v6(self) -> wire.Address:
        """The same over IPv6."""
        return self._first("::")

    def _first(self, source: str) -> wire.Address:
        mistakes: list[str] = []
        for url in self._settings.urls:
            try:
                return self._ask(url, source)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                mistakes.append(f"{url}: {error or type(error).__name__}")
        raise Unproved("\n".join(mistakes), hint="are egress.urls and dns.resolvers reached through the tunnel?")

    def _ask(self, url: str, source: str) -> wire.Address:
        # A new client each time: a kept connection would still show the exit before. One family alone: a loop leases
        # and learns the IPv4 exit, and a service with both would be asked over IPv6 where the tunnel carries it.
        transport = httpx.HTTPTransport(verify=self._context, trust_env=False, local_address=source)
        with httpx.Client(
            transport=transport, timeout=self._settings.timeout_seconds, trust_env=False, follow_redirects=True
        ) as client:
            answer = client.get(url)
            answer.raise_for_status()
            return parse_address(answer.text[:_ANSWER_BYTES])

    def check(self, seen: wire.Address, leased: wire.Address | None) -> None:
        """Raise WrongExit unless SEEN is the LEASED exit; with none known, unless SEEN can be learned."""
        if leased is not None:
            if seen != leased:
                raise WrongExit(f"the world sees {seen}, the leased exit is {leased}")
            return
        hint = "set egress.host_addresses, or give the key its '# ExitAddress ='"
        if not self._host:
            raise WrongExit(f"{seen} cannot be learned as an exit: the host's own addresses are unknown", hint=hint)
        if seen in self._host:
            raise WrongExit(f"the world sees {seen}, an address of this host: nothing went through the tunnel")

    def agrees(self, told: wire.Address, seen: wire.Address, tunnel: netctl_api.Tunnel | None) -> bool:
        """Whether a page that TOLD this address came through the TUNNEL whose IPv4 exit was SEEN.

        Over IPv6 a site sees the other exit; where nobody has named that, it must not be the host.
        """
        if told == seen:
            return True
        if tunnel is None or not tunnel.carries_ipv6 or not isinstance(told, IPv6Address):
            return False
        if tunnel.exit_address_v6 is not None:
            return told == tunnel.exit_address_v6
        return bool(self._host) and told not in self._host

    def prove(self, leased: wire.Address | None) -> wire.Address:
        """Ask and check; the address that is proven."""
        seen = self.seen()
        self.check(seen, leased)
        _log.info("exit.proven", address=str(seen), learned=leased is None)
        return seen


def parse_address(text: str) -> wire.Address:
    """The address in TEXT: itself, or JSON {"ip": ...}; raises ValueError."""
    words = text.strip()
    if words.startswith("{"):
        document = json.loads(words)
        words = str(document.get("ip", ""))
    return ipaddress.ip_address(words)


def _addresses_in(path: Path) -> Sequence[wire.Address]:
    try:
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    return [ipaddress.ip_address(line) for line in lines]
