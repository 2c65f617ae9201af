"""What holds a fleet's workers, shown and flushed by `ip` and `nft` in milliseconds; `netctl plan` takes a second."""

from __future__ import annotations

import re

from tests.fleets import Host

_LEASES = re.compile(r"((?:set|map) (?:open|open_source6?|leased6?|translation6?) \{).*?\n\t\}", re.DOTALL)


MAIN = "rule add from all lookup main priority 32766 protocol kernel"
DEFAULT = "rule add from all lookup default priority 32767 protocol kernel"
_FLUSH = rf"printf 'rule flush\n{MAIN}\n{DEFAULT}\n' | ip -batch -; printf 'rule flush\n{MAIN}\n' | ip -6 -batch -"
"""As careless as it gets: every rule, and only those put back without which no host has a network."""


def flush_rules(host: Host) -> None:
    """`ip rule flush`, wherever there are tunnels."""
    host.everywhere(["sh", "-c", _FLUSH])


def flush_both(host: Host) -> None:
    """Rules and ruleset in the same moment, as close as two programs come to it."""
    host.everywhere(["sh", "-c", f"nft flush ruleset & ({_FLUSH}); wait"])


def layers(host: Host) -> str:
    """Rules, tables and chains that hold the workers, and their links, whatever their leases."""
    show = {"nft": ("nft", "-s", "list", "table", "inet")}
    tables = [host.host([*show["nft"], name]).stdout for name in ("fleet", "fleet_hold")]
    seen = []
    for index, worker in enumerate(host.fleet.members):
        for family in ("-4", "-6"):
            # Rules of one priority may stand in any order.
            seen.append("\n".join(sorted(host.there(["ip", family, "rule"], index, check=True).stdout.splitlines())))
            seen.append(host.there(["ip", family, "route", "show", "table", str(worker.table)], index).stdout)
        link = host.there(["ip", "-oneline", "link", "show", worker.interface], index).stdout
        seen.append(str(re.findall(r"<([\w,-]+)>.* mtu (\d+).* alias (\S+)", link)))
        tables.append(host.there([*show["nft"], "fleet"], index).stdout)
    return "\n".join([*seen, *(re.sub(r"# progname .*", "", _LEASES.sub(r"\1", table)) for table in tables)])
