"""Shows and flushes the layers that confine workers, by `ip` and `nft`, in milliseconds (`netctl plan`: 1 s)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from tests.fleets import Host

_LEASES = re.compile(r"((?:set|map) (?:open|open_source6?|leased6?|translation6?|zones) \{).*?\n\t\}", re.DOTALL)


FAMILIES = ("-4", "-6")
MAIN = "rule add from all lookup main priority 32766 protocol kernel"
DEFAULT = "rule add from all lookup default priority 32767 protocol kernel"
_FLUSH = (
    rf"printf 'rule flush\n{MAIN}\n{DEFAULT}\n' | ip -force -batch -; "
    rf"printf 'rule flush\n{MAIN}\n' | ip -6 -force -batch -; true"
)
"""Deletes every rule, then restores only those without which a host has no network. Also if the flush ends early: while
netctl adds rules the kernel may list one twice, and its second deletion fails."""


def flush_rules(host: Host) -> None:
    """`ip rule flush` in the host and in every worker's namespace."""
    host.everywhere(["sh", "-c", _FLUSH])


def flush_both(host: Host) -> None:
    """Flush rules and nftables ruleset at the same time, as closely as two programs can."""
    host.everywhere(["sh", "-c", f"nft flush ruleset & ({_FLUSH}); wait"])


def layers(host: Host) -> str:
    """The rules, tables and chains that confine the workers, and their links, without what depends on leases."""
    show = {"nft": ("nft", "-s", "list", "table", "inet")}
    tables = [host.host([*show["nft"], name]).stdout for name in ("fleet", "fleet_hold")]
    seen = []
    for index, worker in enumerate(host.fleet.members):
        for family in FAMILIES:
            # Rules of the same priority may be in any order.
            seen.append("\n".join(sorted(host.there(["ip", family, "rule"], index, check=True).stdout.splitlines())))
            seen.append(host.there(["ip", family, "route", "show", "table", str(worker.table)], index).stdout)
        link = host.there(["ip", "-oneline", "link", "show", worker.interface], index).stdout
        seen.append(str(re.findall(r"<([\w,-]+)>.* mtu (\d+).* alias (\S+)", link)))
        tables.append(host.there([*show["nft"], "fleet"], index).stdout)
    return "\n".join([*seen, *(re.sub(r"# progname .*", "", _LEASES.sub(r"\1", table)) for table in tables)])


@contextlib.contextmanager
def addresses_kept(host: Host) -> Iterator[list[list[str]]]:
    """Yields the host's IPv6 addresses as arguments of `ip`; restores these and the default routes at the end.

    The kernel removes them with a link, or with IPv6, and does not restore them; a network manager would.
    """
    links = host.json("ip", "-json", "-6", "address", "show", "scope", "global")
    own = [(link["ifname"], one) for link in links if link["ifname"] != "lo" for one in link["addr_info"] if one]
    addresses = [[f"{one['local']}/{one['prefixlen']}", "dev", name] for name, one in own]
    shown = {family: host.host(["ip", family, "route", "show", "default"], check=True).stdout for family in FAMILIES}
    try:
        yield addresses
    finally:
        for one in addresses:
            host.host(["ip", "address", "replace", *one, "nodad"], check=True)
        for family, routes in shown.items():
            for route in routes.splitlines():
                host.host(["ip", family, "route", "replace", *route.split()], check=True)


@contextlib.contextmanager
def without_ipv6(host: Host, *, off: bool) -> Iterator[None]:
    """While entered, the host has no IPv6 address and no default IPv6 route, or IPv6 is disabled (OFF)."""
    switch = ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.lo.disable_ipv6=1"]
    with addresses_kept(host) as addresses:
        addressed = [["ip", "address", "delete", *one] for one in addresses]
        try:
            for argv in [switch] if off else [["ip", "-6", "route", "delete", "default"], *addressed]:
                host.host(argv, check=True)
            yield
        finally:
            if off:
                host.host([one.replace("=1", "=0") for one in switch], check=True)
