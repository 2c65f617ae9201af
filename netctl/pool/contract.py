"""The key pool as netctl uses it: asynchronous, frozen values in and out, never longer than a deadline.

A lease is `held`, then `ending` (superseded or given back, its device not yet confirmed changed), then `ended`; its
key is free again only then, and rests.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fleet.sockets.netctl_api import PoolStatus, ServerKeys
from fleet.sockets.wire import Address
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


class Pool(Protocol):
    """The keys and their leases. A slot is named by its worker's UID.

    Every method raises KeyStoreFailed when the store refuses, or does not answer in time. Calls take effect one
    after the other, in the order in which they are made. A call that its caller has given up (cancelled, or told
    that it took too long) takes effect before those made later, or never: whatever a take() that was given up has
    leased, the ending() that follows it ends.
    """

    async def take(self, wish: Wish) -> Lease | None:
        """Choose a key and lease it to the slot; None when none is free.

        The lease that the slot held until now is `ending`.
        """

    async def renew(self, lease: Lease) -> None:
        """Write down the owner and the server's address that LEASE has now."""

    async def ending(self, uid: int) -> None:
        """The slot's lease is `ending`: nothing of it may be used, its key is not free yet."""

    async def ended(self, uid: int, *, before: int | None = None) -> None:
        """The device has confirmed: keys of `ending` leases of the slot are free, and rest.

        With BEFORE only of leases of an earlier generation: the one of that generation carries a tunnel now.
        """

    async def held(self) -> list[Lease]:
        """Every lease that is held."""

    async def unfinished(self) -> list[int]:
        """Slots with leases that are `ending`."""

    async def note(self, lease: Lease, why: str, aside: Mapping[Hashable, float]) -> None:
        """Write down why LEASE's key has failed, and for how many seconds it or its server are put ASIDE."""

    async def claim(self, lease: Lease, address: Address, since: float) -> bool:
        """The worker of LEASE says that its key comes out at ADDRESS.

        Whether another worker said the same of the key, with a lease of its own, later than SINCE (wall clock).
        """

    async def learn_exit(self, key_id: int, address: Address) -> None:
        """The key comes out at ADDRESS, unless its file names its exit: that stays. Claims of it are over."""

    async def numbers(self) -> PoolStatus:
        """How many keys there are, leased, resting, free."""

    async def servers(self) -> list[ServerKeys]:
        """The keys at each server, in numbers."""

    async def is_there(self, server: str | None) -> bool:
        """Whether a key of SERVER, or of a region of that name, may become free; None: any key."""

    async def close(self) -> None:
        """Let go of the store; one that does not answer is left as it is."""
