"""The input and output types of the key pool: frozen values.

A lease is `held`, then `ending` (replaced or returned, but its device is not yet confirmed to have changed), then
`ended`. Only then is its key free again, after a rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from netctl.plan.key import Endpoint, Key


class WholeKey(NamedTuple):
    """A key at all of its servers, by its public key."""

    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A key that is leased to a slot."""

    id: str
    uid: int
    key_id: int
    """The id of its row: the key at this server."""
    key: Key
    public: str
    """The key's public key; it is the same at all its servers."""
    origin: str
    """The names of its files."""
    generation: int
    endpoint: Endpoint
    """The server's endpoint; a name is resolved when the tunnel is made."""
    owner: str
    """The process that holds it: see fleet.machine.processes."""
    learned_at: float | None = None
    """When the key's exit was learned (wall clock, seconds); None: its file names it, or it is not known."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Wish:
    """A request of slot UID for a key. netctl.pool.choice chooses it."""

    uid: int
    owner: str
    avoid: frozenset[str] = frozenset()
    """Servers that did not answer this worker just now."""
    server: str | None = None
    """The only server or region whose keys it wants; None: any."""
    aside: Mapping[Hashable, float] = field(default_factory=dict)
    """What has failed lately (a server's name, a row's id or a WholeKey), and until when it is aside (monotonic)."""
    most_on_server: int = 0
    """The most workers at one server; 0: no limit."""
