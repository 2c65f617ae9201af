"""netctl's requests and replies: one table of its requests, and the values that cross its socket.

Every request is entered only in the table; netctl.service has a method of its name.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import ClassVar

from pydantic import AwareDatetime, Field

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Address, Message, Request


class Connect(Request):
    """Give the calling worker a tunnel with a new key; the lease then belongs to its connection.

    `resume` names a lease that the worker held when netctl ended; it gets that lease back unchanged if it
    is still the worker's, else TunnelLost. With `server` its keys are only those of that server, or of that
    region (`KR`), for as long as it stays connected.
    """

    method: ClassVar[str] = "connect"
    resume: str | None = Field(default=None, max_length=64)
    server: str | None = Field(default=None, max_length=253)


class Rotate(Request):
    """Swap the calling worker's tunnel to another key; only on the connection that holds the lease."""

    method: ClassVar[str] = "rotate"


class Proved(Request):
    """Report the address that the world saw, when the exit is unknown or differs: a claim, which netctl checks.

    Refused with WrongExit when netctl sees another address, or when it is one of the host's own.
    """

    method: ClassVar[str] = "proved"
    address: Address


class Stuck(Request):
    """No service answered through the calling worker's tunnel: netctl checks whether it carries large packets.

    If not, the next tunnel gets a smaller MTU. Refused with NoWay when this host has no route to the server.
    """

    method: ClassVar[str] = "stuck"


class StartBrowser(Request):
    """Wait for the calling worker's turn to start its browser. The turn ends with this connection, or after a time."""

    method: ClassVar[str] = "start_browser"


class Status(Request):
    """Status of slots and keys: all of them for root and operators, the caller's own slot for a worker."""

    method: ClassVar[str] = "status"


class AnotherExit(Request):
    """End the tunnel of the worker of that name, as when its server fails: the worker then asks for another itself.

    So its exit does not change during what it is doing. Refused unless `hub.web.acts` names `rotate`.
    """

    method: ClassVar[str] = "another_exit"
    worker: str = Field(max_length=16)


class KeysByServer(Request):
    """The numbers of keys per server and state; no key."""

    method: ClassVar[str] = "keys_by_server"


class Tunnel(Message):
    """A tunnel in use: the reply to connect and rotate, sent only after the handshake."""

    exit_server: str
    """Name of the key's server: the endpoint's host in the key's .conf file."""
    exit_address: Address | None
    """The address that the world should see; None: unknown, the worker reports what was seen (Proved)."""
    exit_address_v6: IPv6Address | None = None
    """The same over IPv6, if the key's file names it."""
    carries_ipv6: bool = False
    """False: the worker's IPv6 is blocked."""
    lease: str
    handshake_ms: float
    rotate_ms: float | None = None
    """netctl's own time from request to answer, handshake included; None for a connect."""


class SlotStatus(Message):
    """One slot as netctl sees it."""

    worker: str
    interface: str
    state: str
    """`sealed`, `connecting`, `connected`, `orphaned` (netctl restarted, its worker not back yet) or `repairing`
    (its device is being replaced: nothing passes)."""
    exit_server: str | None
    exit_address: Address | None
    lease: str | None
    generation: int
    """The number of tunnels that this slot has had since netctl's store was made."""
    since: AwareDatetime
    received_bytes: int
    sent_bytes: int
    last_handshake: AwareDatetime | None
    counted_at: AwareDatetime | None
    """When the three above were read; every 5 s while there is traffic, else every 30 s."""


class PoolStatus(Message):
    """The key pool in numbers; no key."""

    keys: int
    leased: int
    cooling: int
    free: int
    servers: int
    servers_aside: tuple[str, ...] = ()
    """Servers that did not answer recently: for a time they are chosen last."""
    service: str | None = None
    """What is wrong with the key service; "": nothing; None: there is no key service."""


class ServerKeys(Message):
    """The keys of one server, in numbers."""

    server: str
    region: str | None
    keys: int
    """All below, and those now leased at another of their servers."""
    leased: int
    free: int
    cooling: int
    aside: int
    retired: int
    aside_until: AwareDatetime | None
    """When the first of those may be used again."""
    why: str | None
    """The last failure of a key that has not worked since then."""
    last_good: AwareDatetime | None


class Servers(Message):
    """The reply to keys_by_server."""

    servers: tuple[ServerKeys, ...]
    more: int
    """The number of further servers, which are left out (above MOST_SERVERS)."""


class Turn(Message):
    """A worker that has been starting its browser, or waiting for its turn, for SECONDS."""

    worker: str
    seconds: float


class Turns(Message):
    """The queue of browser starts."""

    at_once: int
    starting: tuple[Turn, ...]
    waiting: tuple[Turn, ...]
    """In order: the next one first."""

    def __str__(self) -> str:
        starting = ", ".join(f"{one.worker} for {one.seconds:.0f} s" for one in self.starting) or "none"
        return f"browser starts: {starting}{f', {len(self.waiting)} waiting' if self.waiting else ''}"


class NetctlStatus(Message):
    """The reply to status."""

    backend: str
    pid: int
    slots: tuple[SlotStatus, ...]
    pool: PoolStatus | None
    """None for a worker, which sees only its own slot, and while the key store fails."""
    pool_trouble: str = ""
    """Why the pool is not known."""
    turns: Turns | None = None
    """None for a worker."""


TAKES_KEY = "requests that take a key"
"""A rate of its own, so that one worker cannot drain the pool."""
ENDS_TUNNEL = "ends of tunnels"
"""A rate of its own, so that a hub that was taken over cannot keep workers from working."""
COUNTS_KEYS = "counts of keys"
"""A rate of its own, so that such a hub cannot overload the key store."""
RATES = (TAKES_KEY, ENDS_TUNNEL, COUNTS_KEYS)
"""The names of all these rates."""
MOST_SERVERS = 500
TURN_WAIT_SECONDS = 600.0
"""How long a worker waits for its turn; if hundreds start together, that takes minutes."""
_WORKER = frozenset({Caller.WORKER})

TABLE = Table(
    "netctl",
    # A worker acts on the slot of its own UID; it cannot name another.
    Row(request=Connect, callers=_WORKER, rate=TAKES_KEY),
    Row(request=Rotate, callers=_WORKER, rate=TAKES_KEY),
    Row(request=Proved, callers=_WORKER),
    Row(request=Stuck, callers=_WORKER),
    Row(request=StartBrowser, callers=_WORKER, seconds=TURN_WAIT_SECONDS),
    Row(request=AnotherExit, callers=frozenset({Caller.HUB}), rate=ENDS_TUNNEL),
    Row(request=KeysByServer, callers=frozenset({Caller.HUB}), rate=COUNTS_KEYS, routine=True),
    # A worker gets its own slot, the others get all; no key.
    Row(request=Status, callers=_WORKER | {Caller.ROOT, Caller.OPERATOR}, routine=True),
)
