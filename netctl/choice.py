"""Which key to lease next: a pure function of the pool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A key as the choice sees it."""

    key_id: int
    server: str
    leased: bool
    last_used_at: float | None
    """When its last lease ended, in seconds since 1970; None: never used."""


def choose(
    candidates: Iterable[Candidate],
    *,
    last_server: str | None,
    avoid: frozenset[str],
    now: float,
    cooldown_seconds: float,
) -> Candidate | None:
    """The key to lease next, None when none is free.

    Servers in AVOID (they just did not answer) come last, then LAST_SERVER, so that a worker changes
    its exit while another is free; then servers with more workers; among equals the least
    recently used key.
    """
    pool = list(candidates)
    load = Counter(one.server for one in pool if one.leased)

    def cost(one: Candidate) -> tuple[bool, bool, int, float, int]:
        used = one.last_used_at or 0.0
        return one.server in avoid, one.server == last_server, load[one.server], used, one.key_id

    free = [one for one in pool if not one.leased and rested_at(one, cooldown_seconds) <= now]
    return min(free, key=cost, default=None)


def rested_at(candidate: Candidate, cooldown_seconds: float) -> float:
    """When CANDIDATE's rest is over; WireGuard's replay guard refuses a key used again at once."""
    return 0.0 if candidate.last_used_at is None else candidate.last_used_at + cooldown_seconds
