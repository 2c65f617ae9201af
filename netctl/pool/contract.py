"""What is handed to the key pool, and what it hands out: frozen values.

A lease is `held`, then `ending` (superseded or given back, its device not yet confirmed changed), then `ended`; its
key is free again only then, and rests.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from netctl.plan.key import Endpoint, Key


class WholeKey(NamedTuple):
    """A key by its public key, at whatever server."""

    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A key in the hands of a slot."""

    id: str
    uid: int
    key_id: int
    """Its row: the key at this server."""
    key: Key
    public: str
    """The public key that belongs to it: the same at all its servers."""
    origin: str
    """The names of its files."""
    generation: int
    endpoint: Endpoint
    """Where its server is reached; a name is resolved when the tunnel is made."""
    owner: str
    """Who holds it: see fleet.machine.processes."""
    learned_at: float | None = None
    """When the key's exit was learned (seconds of the wall clock); None: it is its file's, or not known."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Wish:
    """What slot UID wants a key for. Which one it gets: netctl.pool.choice."""

    uid: int
    owner: str
    avoid: frozenset[str] = frozenset()
    """Servers that just did not answer this worker."""
    server: str | None = None
    """The only one whose keys it wants."""
    aside: Mapping[Hashable, float] = field(default_factory=dict)
    """Servers by name, keys by id or whole that have failed lately, and when each comes back (monotonic)."""
    most_on_server: int = 0
    """So many workers at most at one server; 0: any number."""
