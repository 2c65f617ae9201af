"""The exit proof: which address does the world see, asked through the worker's own sockets.

The worker works through no exit but the leased one. A key whose exit is not known yet teaches it at its
first proof, unless what is seen is the host itself: that would be a leak learned as the truth.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from fleet import log, netctl_api, wire
from fleet.errors import WrongExit
from fleet.model import EgressSettings, Paths
from fleet.seen_address import Asker

_log = log.get("worker")


class Prover:
    """Proves exits; made once, as its Asker is."""

    def __init__(self, settings: EgressSettings, paths: Paths, authorities: Path) -> None:
        self._host = frozenset([*settings.host_addresses, *_addresses_in(paths.host_addresses)])
        filled = authorities.is_file() and authorities.stat().st_size
        self.seen = Asker(settings, [authorities] if filled else []).seen
        """The address that the world sees; see Asker.seen."""

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


def _addresses_in(path: Path) -> Sequence[wire.Address]:
    try:
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    return [ipaddress.ip_address(line) for line in lines]
