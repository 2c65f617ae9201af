"""The probes of one run, drawn at random, for the control and for each state of the worker the same."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fleet.probes import Kind, Probe
from fleet.verify.host import NOBODYS, NOBODYS_V6, Host

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
"""Kinds and ports; port 0 is drawn. Each run has an address of nobody's to itself, so that a fixed port is no doubt."""
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One set of probes; two sets have the same names in the same order, and nothing else in common."""

    probes: tuple[Probe, ...]

    @property
    def marks(self) -> dict[str, str]:
        """By name."""
        return {probe.name: probe.mark for probe in self.probes}


def token() -> str:
    """16 characters that occur nowhere else."""
    return f"fv{secrets.token_hex(7)}"


def draw(host: Host) -> Drawn:
    """A fresh set for HOST."""
    return Drawn(probes=tuple(_all(host)))


def _all(host: Host) -> Iterator[Probe]:
    nobody = {
        "an address of nobody's": str(NOBODYS[_random.randrange(1, 255)]),
        "an IPv6 address of nobody's": str(NOBODYS_V6[_random.randrange(1 << 16, 1 << 62)]),
    }
    for bound in dict.fromkeys(("", host.uplink)):
        for what, target in nobody.items():
            yield from (_probe(kind, what, target, port, bound) for kind, port in _TO_NOBODY)
        yield from _near(host, bound)


def _near(host: Host, bound: str) -> Iterator[Probe]:
    """Who is close by: resolvers, the router, cloud metadata."""
    for number, resolver in enumerate(host.resolvers, 1):
        yield _probe("dns", f"the host's resolver {number}", resolver, 53, bound)
    if host.gateway:
        yield _probe("udp", "the gateway", host.gateway, 0, bound)
        yield _probe("tcp", "the gateway", host.gateway, 0, bound)
    yield _probe("udp", "cloud metadata", METADATA, 0, bound)
    yield _probe("tcp", "cloud metadata", METADATA, 0, bound)


def _probe(kind: Kind, what: str, target: str, port: int, bound: str) -> Probe:
    shown = f"{kind}{f' {port}' if port else ''} to {what}{', bound to the uplink' if bound else ''}"
    drawn = 0 if kind == "icmp" else port or _random.randrange(20_000, 60_000)
    return Probe(name=shown, kind=kind, target=target, port=drawn, bound=bound, token=token())


def first_of_each(probes: Iterable[Probe], kind: Kind) -> Probe:
    """The first probe of KIND; raises StopIteration when there is none."""
    return next(probe for probe in probes if probe.kind == kind)
