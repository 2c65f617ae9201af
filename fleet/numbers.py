"""The names and numbers of a worker: interface, table, addresses, all derived from its UID.

An operator can work them out by hand, and netctl recognises its own objects by their range.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from pydantic import BaseModel, Field

_NAME = re.compile("w([0-9]{4})")
FIRST_UID = 1001
"""A worker with UID u has the number n = u - 1000; n is at least 1."""
LAST_UID = 9999
PLACEHOLDERS = ipaddress.IPv4Network("10.255.0.0/16")
"""The network of the workers' placeholder source addresses, unless workers.placeholders sets another; they are
translated before a packet leaves."""
PLACEHOLDERS_V6 = ipaddress.IPv6Network("fd66:6c74:0:ffff::/64")
"""The same for IPv6, a unique local range (RFC 4193)."""
PROTOCOL = 77
"""Protocol number of every route and rule that netctl makes (unused in iproute2's rt_protos)."""
OUTER_MARK = 0x666C7431
"""Mark ("flt1") of WireGuard's outer packets; setting a mark needs CAP_NET_ADMIN or CAP_NET_RAW."""
PROBE_MARK = 0x666C7432
"""Mark ("flt2") of netctl's own probes through a worker's tunnel; no worker can set it, nor the one above."""
TABLES = 10_000
"""Worker n has the routing table TABLES + n, and lookup rules with that priority."""
PROHIBIT_OFFSET = 10_000
"""A worker's prohibit rules have a priority this much higher than its lookup rules."""
SHORTCUTS = (TABLES - 2, TABLES - 1, TABLES, TABLES + 2 * PROHIBIT_OFFSET)
"""Priorities of the rules by which packets that are no worker's skip the rules of all workers, which lie between: the
first leads to the third, the second to the last."""


_in_use = [PLACEHOLDERS]


def placeholders() -> ipaddress.IPv4Network:
    """The placeholder network of this process's fleet."""
    return _in_use[0]


def use_placeholders(network: ipaddress.IPv4Network) -> None:
    """Set the placeholder network of this process's fleet; call it once, before anything is derived from a worker.

    It is a global, because what the kernel reports has only a UID or an address and no settings.
    """
    _in_use[0] = network


class BrowserPorts(NamedTuple):
    """Loopback ports of one worker's browser, which netctl closes to other workers."""

    devtools: int
    driver: int


class Worker(BaseModel, frozen=True, extra="forbid"):
    """One worker, identified by its UID, from which all its numbers are derived."""

    uid: int = Field(ge=FIRST_UID, le=LAST_UID)

    @classmethod
    def named(cls, name: str) -> Worker | None:
        """The worker of that NAME, in this fleet or not; None when it is no worker's name."""
        found = _NAME.fullmatch(name)
        return cls.numbered(int(found[1]) - 1000) if found else None

    @classmethod
    def numbered(cls, number: int) -> Worker | None:
        """The worker with that NUMBER; None when it is out of range."""
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
        """`fleet-w1101`: its own network namespace, with isolation netns."""
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
        """Both names that its link may have."""
        return self.interface, self.spare_interface

    @property
    def alias(self) -> str:
        """The link's alias, which marks it as ours: `fleet:w1101`."""
        return f"fleet:{self.name}"

    @property
    def table(self) -> int:
        """Routing table, and the priority of the rules that look it up: 10000 + n."""
        return TABLES + self.number

    @property
    def prohibit_priority(self) -> int:
        """The priority of the prohibit rules, which the kernel tries after the lookups: 20000 + n."""
        return self.table + PROHIBIT_OFFSET

    @property
    def placeholder(self) -> ipaddress.IPv4Address:
        """The worker's source address before translation: address n of the placeholder network (10.255.0.0/16)."""
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
        """10000 + 2n and 10001 + 2n: below the ephemeral range, reserved for this UID."""
        return BrowserPorts(10_000 + 2 * self.number, 10_001 + 2 * self.number)

    @classmethod
    def of_interface(cls, interface: str) -> Worker | None:
        """The worker that an interface name belongs to, spare names too; None when the name is not one of ours."""
        digits = interface.removeprefix("wg").removesuffix("s")
        if not interface.startswith("wg") or not digits.isdecimal() or str(int(digits)) != digits:
            return None
        return cls.numbered(int(digits))

    @classmethod
    def of_placeholder(cls, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Worker | None:
        """The worker whose placeholder ADDRESS is; None for any other address."""
        network = placeholders() if isinstance(address, ipaddress.IPv4Address) else PLACEHOLDERS_V6
        return cls.numbered(int(address) - int(network.network_address)) if address in network else None
