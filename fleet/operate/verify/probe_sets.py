"""The probes of one run: the facts about the host that they need, and several random sets of them.

The control and each state of the worker get one set each; the sets differ only in addresses, ports and tokens.
"""

from __future__ import annotations

import ipaddress
import json
import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fleet.errors import FleetError, MissingProgram, TryLater
from fleet.probes import Kind, Probe
from fleet.programs import PLAIN_ENVIRONMENT, call

NOBODYS = ipaddress.IPv4Network("192.0.2.0/24")
"""Documentation addresses (RFC 5737): the default route takes them, and no host has one."""
NOBODYS_V6 = ipaddress.IPv6Network("2001:db8:ffff::/64")
"""The same for IPv6 (RFC 3849)."""
METADATA = "169.254.169.254"
"""Where clouds serve a machine's metadata, its credentials included."""
_TO_NOBODY: tuple[tuple[Kind, int], ...] = (
    ("tcp", 0),
    ("tcp", 53),
    ("tcp", 853),
    ("udp", 0),
    ("udp", 443),
    ("dns", 53),
    ("stun", 3478),
    ("quic", 443),
    ("icmp", 0),
)
"""Kinds and ports; port 0: a random one. No two sets share an unassigned address, so fixed ports are unambiguous."""
_PORTS = range(20_000, 60_000)
_MOST_PORTS = 32
"""Random ports of one set, at most."""
_IP_SECONDS = 10.0
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine's own network, which a worker must not use."""

    uplink: str
    """The interface of the default route; "": no default route."""
    gateway: str
    address: str
    """The source address of the default route."""
    resolvers: tuple[str, ...]
    """From resolv.conf, without loopback addresses: no packet to those leaves the host."""


def look(resolv_conf: Path = Path("/etc/resolv.conf")) -> Host:
    """The host as it is now; raises MissingProgram or TryLater when `ip` cannot be run or does not answer."""
    route = _route(4, str(NOBODYS[1]))
    return Host(
        uplink=route.get("dev", "") or _route(6, str(NOBODYS_V6[1])).get("dev", ""),
        gateway=route.get("gateway", ""),
        address=route.get("prefsrc", ""),
        resolvers=tuple(_resolvers(resolv_conf)),
    )


def without_way(probes: Sequence[Probe], uid: int) -> frozenset[str]:
    """The marks of those PROBES for which the host's routing tables have no route for the user UID.

    The sender's error cannot tell: on a host without IPv6 the kernel takes a worker's placeholder as the only source
    address, and returns what our rules say about that (ip6_dst_lookup_tail_net in net/ipv6/ip6_output.c).
    """
    tried = {(one.target, one.bound) for one in probes}
    ways = {(to, by) for to, by in tried if _route(6 if ":" in to else 4, to, by, uid)}
    return frozenset(one.mark for one in probes if (one.target, one.bound) not in ways)


def _route(family: int, target: str, interface: str = "", uid: int = 0) -> dict[str, str]:
    """The host's route to TARGET, restricted to INTERFACE if one is named; empty when there is none."""
    bound = ["oif", interface] if interface else []
    command = ["ip", f"-{family}", "-json", "route", "get", target, "uid", str(uid), *bound]
    try:
        said = call(command, PLAIN_ENVIRONMENT, deadline_seconds=_IP_SECONDS)
    except (MissingProgram, TryLater):
        raise
    except FleetError:  # `ip` fails when there is no route
        return {}
    found = cast("list[dict[str, str]]", json.loads(said or "[]"))
    return found[0] if found and found[0].get("type", "unicast") == "unicast" else {}


def _resolvers(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue  # with a zone: a link-local resolver
            if not address.is_loopback:
                found.append(str(address))
    return found


def token() -> str:
    """16 random characters that occur nowhere else."""
    return f"fv{secrets.token_hex(7)}"


def draw(host: Host, sets: int) -> list[tuple[Probe, ...]]:
    """SETS new sets for HOST, with the same names in the same order, and nothing else in common.

    No unassigned address and no random port occurs twice, neither in one set nor in two.
    """
    ways = tuple(dict.fromkeys(("", host.uplink)))
    addresses = iter(_random.sample(range(1, 255), sets * len(ways)))
    ports = iter(_random.sample(_PORTS, sets * _MOST_PORTS))
    return [tuple(probe for way in ways for probe in _all(host, way, next(addresses), ports)) for _ in range(sets)]


def _all(host: Host, bound: str, number: int, ports: Iterator[int]) -> Iterator[Probe]:
    """All probes over one route. NUMBER selects the unassigned documentation address they go to."""
    nobody = {
        "an unassigned address": str(NOBODYS[number]),
        "an unassigned IPv6 address": str(NOBODYS_V6[number]),
    }
    for what, target in nobody.items():
        yield from (_probe(kind, what, target, port or next(ports), bound) for kind, port in _TO_NOBODY)
    yield from _near(host, bound, ports)


def _near(host: Host, bound: str, ports: Iterator[int]) -> Iterator[Probe]:
    """Probes to the host's resolvers, its gateway and cloud metadata."""
    for number, resolver in enumerate(host.resolvers, 1):
        yield _probe("dns", f"the host's resolver {number}", resolver, 53, bound)
    if host.gateway:
        yield _probe("udp", "the gateway", host.gateway, next(ports), bound)
        yield _probe("tcp", "the gateway", host.gateway, next(ports), bound)
    yield _probe("udp", "cloud metadata", METADATA, next(ports), bound)
    yield _probe("tcp", "cloud metadata", METADATA, next(ports), bound)


def _probe(kind: Kind, what: str, target: str, port: int, bound: str) -> Probe:
    shown = f"{kind}{f' {port}' if port < _PORTS.start else ''} to {what}{', bound to the uplink' if bound else ''}"
    return Probe(name=shown, kind=kind, target=target, port=port, bound=bound, token=token())
