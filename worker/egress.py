"""The exit proof: asks through the worker's own sockets which address the world sees.

The worker uses no exit but the leased one. If the key's exit is unknown, netctl judges the address that was seen; if
another address than the leased one was seen, it is reported to netctl, because exits change their addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path

from fleet import log
from fleet.errors import WrongExit
from fleet.model import EgressSettings
from fleet.outside.seen_address import Asker
from fleet.sockets import netctl_api, wire

_log = log.get("worker")
ToNetctl = Callable[[wire.Address], None]
"""Reports the seen address to netctl; raises WrongExit when that cannot be the exit."""


class Prover:
    """Proves exits; make it once, like its Asker."""

    def __init__(self, settings: EgressSettings, authorities: Path) -> None:
        filled = authorities.is_file() and authorities.stat().st_size
        self.seen = Asker(settings, [authorities] if filled else []).seen
        """The address that the world sees; see Asker.seen."""

    def prove(self, leased: wire.Address | None, to_netctl: ToNetctl) -> wire.Address:
        """Ask and check; returns the proven address. Raises Unproved, WrongExit."""
        seen = self.seen()
        check(seen, leased, to_netctl)
        _log.info("exit.proven", address=str(seen), leased=leased is not None)
        return seen


def check(seen: wire.Address, leased: wire.Address | None, to_netctl: ToNetctl) -> None:
    """Raise WrongExit unless SEEN is the LEASED exit or, if that is unknown (None), netctl accepts SEEN."""
    if seen == leased:
        return
    to_netctl(seen)
    if leased is not None:
        raise WrongExit(f"the world sees {seen}, the leased exit is {leased}")


def agrees(told: wire.Address, seen: wire.Address, tunnel: netctl_api.Tunnel | None, to_netctl: ToNetctl) -> bool:
    """Whether a page that showed the address TOLD came through TUNNEL, whose IPv4 exit was SEEN.

    Over IPv6 a site sees the IPv6 exit; if no file names that, netctl checks that it is not the host's.
    """
    if told == seen:
        return True
    if tunnel is None or not tunnel.carries_ipv6 or not isinstance(told, IPv6Address):
        return False
    if tunnel.exit_address_v6 is None:
        to_netctl(told)
    return tunnel.exit_address_v6 in (None, told)
