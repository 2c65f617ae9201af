"""What the host and its other programs do to packets of tunnels and workers: no route, earlier rules, filters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from fleet.model import PLACEHOLDERS_V6, PROTOCOL
from fleet.operate.doctor.check import Finding, check, error, ok, some, warning
from fleet.operate.doctor.machine import Case

_OUTER_BYTES = {4: 60, 6: 80}
"""What WireGuard, UDP and IP add to a packet, by IP version."""
_LEAST_CONNECTIONS = 2048
"""Per worker: a busy page holds some 200 connections and DNS queries; ended ones stay for up to two minutes."""
_NEARLY_FULL = 0.9
_OPENED = (
    "ufw allow out proto udp to any port 51820 (the ports in `Endpoint =` of your keys' files); "
    'with isolation = "uid" also, for each tunnel: ufw allow out on wg101'
)
_NO_MARK = ("0x0", "0")
_OUR_TABLES = ("fleet", "fleet_hold")
_WITHOUT_ROUTE = re.compile(r"fib saddr .*\bmissing\b.*\bdrop\b|rpfilter.*\bdrop\b", re.IGNORECASE)
"""nft's own reverse path filter, and iptables' match `rpfilter`."""


@check("uplink", "WireGuard's packets leave by the host's own route, and are larger than the packets in them")
def uplink(case: Case) -> Finding:
    """Whether there is a default route, and its link's MTU is large enough for a tunnel's packets."""
    main = [one for one in _routes(case) if (one.get("dst"), one.get("table", "main")) == ("default", "main")]
    if not main:
        return warning("this host has no default route, so it may reach no VPN server", "ip route; ip link")
    sizes = {one["dev"]: case.machine.number(f"/sys/class/net/{one['dev']}/mtu") or 0 for one in main if "dev" in one}
    needed = case.fleet.wireguard.mtu + _OUTER_BYTES[4]
    small = [f"{name} {size}" for name, size in sizes.items() if 0 < size < needed]
    if small:
        least = min(size for size in sizes.values() if size) - _OUTER_BYTES[6]
        return warning(
            f"the uplink carries {some(small)} bytes in a packet; tunnels of {case.fleet.wireguard.mtu} need {needed}",
            f"set wireguard.mtu = {least} in fleet.toml",
        )
    return ok(f"the default route is by {some(sorted(sizes))}")


@check("rules", "a rule before the fleet's sends a worker's packets elsewhere, where the kill switch drops them")
def rules(case: Case) -> Finding:
    """Rules of other programs (Tailscale's 5270, wg-quick's) whose tables have routes."""
    if case.fleet.isolation == "netns":
        return ok("not needed: each worker has the rules of its own network namespace")
    tables: dict[str, list[str]] = {}
    for route in _routes(case):
        tables.setdefault(str(route.get("table", "main")), []).append(str(route.get("dst")))
    found = list(_in_front(case, tables))
    if found:
        return warning(
            f"before the fleet's rules: {some(found)}",
            "leave these routes out (Tailscale: tailscale set --accept-routes=false --exit-node=), "
            'or set isolation = "netns"',
        )
    return ok("no other program's rule takes a worker's packets")


def _in_front(case: Case, tables: Mapping[str, list[str]]) -> Iterator[str]:
    """The rules that a worker's packets match before the fleet's, and the destinations that they take."""
    first = min(worker.table for worker in case.fleet.members)
    for rule in _told(case, "ip", "-json", "rule"):
        own = rule.get("protocol") == str(PROTOCOL)
        if own or not 0 < rule["priority"] < first or not _for_workers(case, rule):
            continue
        name = f"{rule['priority']} ({rule.get('table') or rule.get('action')})"
        taken = tables.get(str(rule.get("table")), [])
        if "suppress_prefixlen" in rule:
            taken = [one for one in taken if one != "default"]
        if "table" not in rule:
            yield f"rule {name} refuses all"
        elif taken:
            yield f"rule {name} takes {some(taken, 2)}"


def _for_workers(case: Case, rule: Mapping[str, Any]) -> bool:
    """Whether RULE matches a worker's packet, which has no mark and comes from this host."""
    uids = range(int(rule.get("uid_start", 0)), int(rule.get("uid_end", 1 << 32)) + 1)
    marked = rule.get("fwmark", "0x0") not in _NO_MARK
    by_mark = marked == ("not" in rule)
    others = rule.get("iif", "lo") != "lo" or "oif" in rule or rule.get("src", "all") != "all"
    return by_mark and not others and any(worker.uid in uids for worker in case.fleet.members)


@check(
    "placeholders", "a worker's packets have a source address of this range until they leave; the host must have none"
)
def placeholders(case: Case) -> Finding:
    """Whether the host has other addresses in the range from which workers send."""
    if case.fleet.isolation == "netns":
        return ok("not needed: each worker has its own in its own network namespace")
    network = case.fleet.workers.placeholders
    own = {one for worker in case.fleet.members for one in (network[worker.number], worker.placeholder_v6)}
    there = [
        (ip_address(one["local"]), link["ifname"])
        for link in _told(case, "ip", "-json", "address")
        for one in link.get("addr_info", ())
    ]
    ranges = (network, PLACEHOLDERS_V6)
    found = [f"{one} on {name}" for one, name in there if any(one in each for each in ranges) and one not in own]
    if found:
        return warning(
            f"among the placeholders ({network}, {PLACEHOLDERS_V6}): {some(found)}",
            'set workers.placeholders in fleet.toml to a private network that is unused here, or isolation = "netns"',
        )
    return ok(f"only the fleet uses {network} and {PLACEHOLDERS_V6}")


@check("filters", "a reverse path filter drops every answer that comes through a tunnel")
def filters(case: Case) -> Finding:
    """Reverse path filters in nftables chains of other programs, above all firewalld's IPv6_rpfilter."""
    if case.fleet.isolation == "netns":
        return ok("not needed: tunnels end in network namespaces of their own")
    found, table = [], ""
    for line in case.ask("nft", "list", "ruleset").out.splitlines():
        if heading := re.match(r"table (\S+ \S+) \{", line):
            table = heading[1]
        elif _WITHOUT_ROUTE.search(line) and table.split()[-1] not in _OUR_TABLES:
            family = "IPv6" if "ipv6" in line or table.startswith("ip6 ") else "IPv4" if "ipv4" in line else "all"
            found.append(f"table {table} ({family})")
    if found:
        return warning(
            f"answers without a route back are dropped by {some(sorted(set(found)))}",
            "firewalld: IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, then firewall-cmd --reload",
        )
    return ok("no other program's chain drops packets without a route back")


@check("firewalls", "WireGuard's packets have to pass the host's own firewall like any others")
def firewalls(case: Case) -> Finding:
    """Whether ufw, by its own files, and firewalld let tunnels' packets out."""
    machine = case.machine
    enabled = _assigned(machine.text("/etc/ufw/ufw.conf"), "ENABLED").lower() == "yes"
    policy = _assigned(machine.text("/etc/default/ufw"), "DEFAULT_OUTPUT_POLICY") or "ACCEPT"
    if enabled and policy != "ACCEPT" and (closed := list(_closed(case, machine.text("/etc/ufw/user.rules")))):
        return warning(f"ufw lets out what a rule allows, and none allows {some(closed)}", _OPENED)
    if any(process.name == "firewalld" for process in case.processes):
        return ok("firewalld; while it reloads nothing leaves this host, which may cost a loop one attempt")
    return ok("ufw, which lets tunnels out" if enabled else "neither ufw nor firewalld")


def _closed(case: Case, notes: str) -> Iterator[str]:
    """What no ufw rule lets out. NOTES has lines `### tuple ### allow udp 51820 0.0.0.0/0 any 0.0.0.0/0 out`."""
    allowed = re.findall(r"^### tuple ### allow (\w+) (\w+) .* out(?:_(\S+))?$", notes, re.MULTILINE)
    tunnels = [worker.interface for worker in case.fleet.members]
    if not any(protocol in ("udp", "any") and port != "53" and link not in tunnels for protocol, port, link in allowed):
        yield "WireGuard (UDP)"
    if case.fleet.isolation == "uid":  # what workers send passes the same firewall before it is in a tunnel
        yield from (name for name in tunnels if ("any", "any", name) not in allowed)


def _assigned(text: str, name: str) -> str:
    """The value of the variable NAME in a shell file; empty when it has none."""
    found = re.search(rf"^{name}=[\"']?(\w*)", text, re.MULTILINE)
    return found[1] if found else ""


@check("connections", "when the connection tracking table is full the kernel drops packets of every program")
def connections(case: Case) -> Finding:
    """The size of the connection tracking table, and how full it is."""
    machine, folder = case.machine, "/proc/sys/net/netfilter"
    most, count = machine.number(f"{folder}/nf_conntrack_max"), machine.number(f"{folder}/nf_conntrack_count") or 0
    if most is None:
        return ok("not loaded yet")
    text, needed = f"{count} of {most} connections", _LEAST_CONNECTIONS * case.fleet.workers.count
    if most < needed:
        return warning(f"{text}; {case.fleet.workers.count} workers may need {needed}", _raised(needed))
    if count > _NEARLY_FULL * most:
        return error(f"{text}: nearly full", _raised(2 * most))
    return ok(text)


def _raised(most: int) -> str:
    return f"sysctl -w net.netfilter.nf_conntrack_max={max(65_536, most)}"


def _routes(case: Case) -> list[dict[str, Any]]:
    return _told(case, "ip", "-json", "route", "show", "table", "all")


def _told(case: Case, program: str, *words: str) -> list[dict[str, Any]]:
    """The output of `ip` as JSON, for both families."""
    texts = [case.ask(program, family, *words).out for family in ("-4", "-6")]
    return [one for text in texts for one in json.loads(text or "[]")]
