"""Which key to lease next: a pure function of the pool."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A key as the choice sees it."""

    key_id: int
    server: str
    leased: bool
    last_used_at: float | None
    """When its last lease ended, on the store's clock; None: never used."""


def choose(
    candidates: Iterable[Candidate],
    *,
    last_server: str | None,
    avoid: frozenset[str],
    now: float,
    cooldown_seconds: float,
    aside: Mapping[Hashable, float] | None = None,
) -> Candidate | None:
    """The key to lease next, None when none is free.

    Servers in AVOID (they just did not answer this worker) come last; then what is put ASIDE, servers by name
    and keys by id, the one that comes back first before the others; then LAST_SERVER, so that a worker changes
    its exit while another is free; then servers with more workers; among equals the least recently used key.
    Last is not never: when the way to every server was cut, all of them are aside.
    """
    pool = list(candidates)
    put_aside = aside or {}
    load = Counter(one.server for one in pool if one.leased)

    def cost(one: Candidate) -> tuple[bool, float, bool, int, float, int]:
        back = max(put_aside.get(one.server, 0.0), put_aside.get(one.key_id, 0.0))
        # Never used comes before any time, also those of an earlier boot, which lie below zero.
        used = -math.inf if one.last_used_at is None else one.last_used_at
        return one.server in avoid, back, one.server == last_server, load[one.server], used, one.key_id

    free = [one for one in pool if not one.leased and rested_at(one, cooldown_seconds) <= now]
    return min(free, key=cost, default=None)


def rested_at(candidate: Candidate, cooldown_seconds: float) -> float:
    """When CANDIDATE's rest is over; WireGuard's replay guard refuses a key used again at once."""
    return -math.inf if candidate.last_used_at is None else candidate.last_used_at + cooldown_seconds
