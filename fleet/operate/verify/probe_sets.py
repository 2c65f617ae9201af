"""The probes of one run, drawn at random, for the control and for each state of the worker the same."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator

from fleet.operate.verify.host import NOBODYS, NOBODYS_V6, Host
from fleet.probes import Kind, Probe

METADATA = "169.254.169.254"
"""Where clouds answer questions about a machine, its credentials included."""
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
"""Kinds and ports; port 0 is drawn. No two sets share an address of nobody's, so that a fixed port is no doubt."""
_PORTS = range(20_000, 60_000)
_MOST_PORTS = 32
"""Drawn ports of one set."""
_random = random.SystemRandom()


def token() -> str:
    """16 characters that occur nowhere else."""
    return f"fv{secrets.token_hex(7)}"


def draw(host: Host, sets: int) -> list[tuple[Probe, ...]]:
    """So many fresh sets for HOST, with the same names in the same order, and nothing else in common.

    No address of nobody's and no drawn port is in two of them, nor twice in one.
    """
    ways = tuple(dict.fromkeys(("", host.uplink)))
    addresses = iter(_random.sample(range(1, 255), sets * len(ways)))
    ports = iter(_random.sample(_PORTS, sets * _MOST_PORTS))
    return [tuple(probe for way in ways for probe in _all(host, way, next(addresses), ports)) for _ in range(sets)]


def _all(host: Host, bound: str, number: int, ports: Iterator[int]) -> Iterator[Probe]:
    """Everything that is sent by one way; NUMBER is that of its addresses of nobody's."""
    nobody = {
        "an address of nobody's": str(NOBODYS[number]),
        "an IPv6 address of nobody's": str(NOBODYS_V6[number]),
    }
    for what, target in nobody.items():
        yield from (_probe(kind, what, target, port or next(ports), bound) for kind, port in _TO_NOBODY)
    yield from _near(host, bound, ports)


def _near(host: Host, bound: str, ports: Iterator[int]) -> Iterator[Probe]:
    """Who is close by: resolvers, the router, cloud metadata."""
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
