"""The numbers of a worker: interface, table, addresses, all derived from its UID alone.

An operator can work them out by hand, and netctl knows its own objects by their range.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from pydantic import BaseModel, Field

_NAME = re.compile("w([0-9]{4})")
FIRST_UID = 1001
"""UID u has number n = u - 1000; n is at least 1."""
LAST_UID = 9999
PLACEHOLDERS = ipaddress.IPv4Network("10.255.0.0/16")
"""Where the workers' placeholder sources lie, unless workers.placeholders says otherwise; translated before anything
leaves."""
PLACEHOLDERS_V6 = ipaddress.IPv6Network("fd66:6c74:0:ffff::/64")
"""The same for IPv6, a unique local range (RFC 4193)."""
PROTOCOL = 77
"""Route and rule protocol number of everything netctl makes (free in iproute2's rt_protos)."""
OUTER_MARK = 0x666C7431
"""Packet mark of what kernel WireGuard sends for us ("flt1"); setting one needs CAP_NET_ADMIN or CAP_NET_RAW."""
PROBE_MARK = 0x666C7432
"""Packet mark of netctl's own look through a worker's tunnel ("flt2"): that of no worker, as the one above."""
TABLES = 10_000
"""Worker n has table TABLES + n, and lookup rules of that priority."""
PROHIBIT_OFFSET = 10_000
"""A worker's prohibit rules have a priority this much higher than its lookup rules."""


_in_use = [PLACEHOLDERS]


def placeholders() -> ipaddress.IPv4Network:
    """Where those of this process's fleet lie."""
    return _in_use[0]


def use_placeholders(network: ipaddress.IPv4Network) -> None:
    """The fleet of this process has its placeholders in NETWORK; said once, before anything is made of a worker.

    What the kernel tells has a UID or an address alone, and no settings beside it.
    """
    _in_use[0] = network


class BrowserPorts(NamedTuple):
    """Loopback ports of one worker's browser: netctl keeps other workers away from them."""

    devtools: int
    driver: int


class Worker(BaseModel, frozen=True, extra="forbid"):
    """One worker, known by its UID; every number of it derives from that."""

    uid: int = Field(ge=FIRST_UID, le=LAST_UID)

    @classmethod
    def named(cls, name: str) -> Worker | None:
        """The one of that NAME, of this fleet or not; None: no worker is called so."""
        found = _NAME.fullmatch(name)
        return cls.numbered(int(found[1]) - 1000) if found else None

    @classmethod
    def numbered(cls, number: int) -> Worker | None:
        """The one of that NUMBER; None: there can be none."""
        uid = number + 1000
        return cls(uid=uid) if FIRST_UID <= uid <= LAST_UID else None

    @property
    def number(self) -> int:
        """n = uid - 1000."""
        return self.uid - 1000

    @property
    def name(self) -> str:
        """`w1101`: the account, the supervisor's process name, the folder names."""
        return f"w{self.uid}"

    @property
    def space(self) -> str:
        """`fleet-w1101`: its own network namespace, where the fleet's isolation gives it one."""
        return f"fleet-{self.name}"

    @property
    def interface(self) -> str:
        """`wg101`."""
        return f"wg{self.number}"

    @property
    def spare_interface(self) -> str:
        """`wg101s`: used instead while a link of the usual name cannot be deleted."""
        return f"{self.interface}s"

    @property
    def interfaces(self) -> tuple[str, str]:
        """Both names its link may have."""
        return self.interface, self.spare_interface

    @property
    def alias(self) -> str:
        """The mark of ownership on the link: `fleet:w1101`."""
        return f"fleet:{self.name}"

    @property
    def table(self) -> int:
        """Routing table, and the priority of the rules that look it up: 10000 + n."""
        return TABLES + self.number

    @property
    def prohibit_priority(self) -> int:
        """The priority of the prohibit rules, which the kernel asks after the lookups: 20000 + n."""
        return self.table + PROHIBIT_OFFSET

    @property
    def placeholder(self) -> ipaddress.IPv4Address:
        """The worker's source address before translation: 10.255.x.y counted from n."""
        return placeholders()[self.number]

    @property
    def placeholder_v6(self) -> ipaddress.IPv6Address:
        """The same for IPv6: fd66:6c74:0:ffff::65 for n = 101."""
        return PLACEHOLDERS_V6[self.number]

    @property
    def placeholders(self) -> tuple[ipaddress.IPv4Address, ipaddress.IPv6Address]:
        """Its IPv4 and IPv6 placeholders."""
        return self.placeholder, self.placeholder_v6

    @property
    def browser_ports(self) -> BrowserPorts:
        """10000 + 2n and the next: below the ephemeral range, for this UID alone."""
        return BrowserPorts(10_000 + 2 * self.number, 10_001 + 2 * self.number)

    @classmethod
    def of_interface(cls, interface: str) -> Worker | None:
        """The worker an interface name stands for, spare names too; None when the name is not one of ours."""
        digits = interface.removeprefix("wg").removesuffix("s")
        if not interface.startswith("wg") or not digits.isdecimal() or str(int(digits)) != digits:
            return None
        return cls.numbered(int(digits))

    @classmethod
    def of_placeholder(cls, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Worker | None:
        """The worker whose placeholder ADDRESS is; None for any other address."""
        network = placeholders() if isinstance(address, ipaddress.IPv4Address) else PLACEHOLDERS_V6
        return cls.numbered(int(address) - int(network.network_address)) if address in network else None
