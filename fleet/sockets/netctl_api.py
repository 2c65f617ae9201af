"""What netctl is asked, and what it answers: one table of its requests, and the values that cross its socket.

The table is the one place where a request is entered; netctl.service has a method of its name.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import ClassVar

from pydantic import AwareDatetime, Field

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Address, Message, Request


class Connect(Request):
    """Give the calling worker a tunnel over a fresh key; its connection then holds the lease.

    `resume` names a lease the worker still held when netctl went away; it is given back unchanged
    if it is still the worker's, and refused with TunnelLost otherwise. With `server` its keys come from that
    server alone, or from that region (`KR`), for as long as it stays connected: a worker may look out where it likes.
    """

    method: ClassVar[str] = "connect"
    resume: str | None = Field(default=None, max_length=64)
    server: str | None = Field(default=None, max_length=253)


class Rotate(Request):
    """Swap the calling worker's tunnel to another key; only on the connection that holds the lease."""

    method: ClassVar[str] = "rotate"


class Proved(Request):
    """What the world has seen of the worker, where the exit is not known, or is another: a claim, judged by netctl.

    Refused with WrongExit where netctl sees another address, or one of the host's own.
    """

    method: ClassVar[str] = "proved"
    address: Address


class Stuck(Request):
    """Nobody answered through the calling worker's tunnel: netctl looks whether it carries large packets.

    Where it does not, the next tunnel has smaller ones. Refused with NoWay where this host has none to the server.
    """

    method: ClassVar[str] = "stuck"


class StartBrowser(Request):
    """Wait for the calling worker's turn to start its browser. The turn ends with this connection, or by its time."""

    method: ClassVar[str] = "start_browser"


class Status(Request):
    """Slots and keys: all of them for root and operators, the caller's own slot for a worker."""

    method: ClassVar[str] = "status"


class AnotherExit(Request):
    """End the tunnel of the worker of that name, as when its server fails: it asks for one over another key itself.

    So its exit does not change under what it is doing. Refused unless `hub.web.acts` names `rotate`.
    """

    method: ClassVar[str] = "another_exit"
    worker: str = Field(max_length=16)


class KeysByServer(Request):
    """How the keys of each server are, in numbers; no key."""

    method: ClassVar[str] = "keys_by_server"


class Tunnel(Message):
    """A tunnel in use: the answer to connect and rotate, given only after the handshake."""

    exit_server: str
    """Name of the key's server: the endpoint's host in the key's .conf file."""
    exit_address: Address | None
    """Address the world should see; None: not known, and netctl is asked about what was seen (Proved)."""
    exit_address_v6: IPv6Address | None = None
    """The same over IPv6, where the key's file names it."""
    carries_ipv6: bool = False
    """Without it the worker's IPv6 is blocked."""
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
    """Counts the tunnels this slot has had since netctl's store was made."""
    since: AwareDatetime
    received_bytes: int
    sent_bytes: int
    last_handshake: AwareDatetime | None
    counted_at: AwareDatetime | None
    """When the three above were read; every 5 s while something passes, every 30 s at rest."""


class PoolStatus(Message):
    """The key pool in numbers; never a key."""

    keys: int
    leased: int
    cooling: int
    free: int
    servers: int
    servers_aside: tuple[str, ...] = ()
    """Servers that have not answered lately: chosen last, until their time is over."""
    service: str | None = None
    """What is wrong with the key service, "" for nothing; None: there is none."""


class ServerKeys(Message):
    """The keys at one server, in numbers."""

    server: str
    region: str | None
    keys: int
    """Those below, and those that are leased at another server of theirs now."""
    leased: int
    free: int
    cooling: int
    aside: int
    retired: int
    aside_until: AwareDatetime | None
    """When the first of those comes back."""
    why: str | None
    """The last failure of a key that has not worked since."""
    last_good: AwareDatetime | None


class Servers(Message):
    """The answer to keys_by_server."""

    servers: tuple[ServerKeys, ...]
    more: int
    """Servers beyond those: more than MOST_SERVERS are not told."""


class Turn(Message):
    """A worker that starts its browser, or waits for its turn, since so many seconds."""

    worker: str
    seconds: float


class Turns(Message):
    """Whose browser may start now."""

    at_once: int
    starting: tuple[Turn, ...]
    waiting: tuple[Turn, ...]
    """The next one first."""

    def __str__(self) -> str:
        starting = ", ".join(f"{one.worker} for {one.seconds:.0f} s" for one in self.starting) or "none"
        return f"browser starts: {starting}{f', {len(self.waiting)} waiting' if self.waiting else ''}"


class NetctlStatus(Message):
    """The answer to status."""

    backend: str
    pid: int
    slots: tuple[SlotStatus, ...]
    pool: PoolStatus | None
    """None for a worker, which sees its own slot alone, and while the key store fails."""
    pool_trouble: str = ""
    """Why it is not known."""
    turns: Turns | None = None
    """None for a worker."""


TAKES_KEY = "requests that take a key"
"""A rate of its own: it keeps one worker from draining the pool."""
ENDS_TUNNEL = "ends of tunnels"
"""A rate of its own: whoever has taken the hub over keeps no worker from its work for long."""
COUNTS_KEYS = "counts of keys"
"""Another: nor from the key store."""
RATES = (TAKES_KEY, ENDS_TUNNEL, COUNTS_KEYS)
"""The names of all."""
MOST_SERVERS = 500
TURN_WAIT_SECONDS = 600.0
"""How long a worker waits for its turn; hundreds that start together need minutes."""
_WORKER = frozenset({Caller.WORKER})

TABLE = Table(
    "netctl",
    # A worker acts on the slot of its own UID; no request can name another.
    Row(request=Connect, callers=_WORKER, rate=TAKES_KEY),
    Row(request=Rotate, callers=_WORKER, rate=TAKES_KEY),
    Row(request=Proved, callers=_WORKER),
    Row(request=Stuck, callers=_WORKER),
    Row(request=StartBrowser, callers=_WORKER, seconds=TURN_WAIT_SECONDS),
    Row(request=AnotherExit, callers=frozenset({Caller.HUB}), rate=ENDS_TUNNEL),
    Row(request=KeysByServer, callers=frozenset({Caller.HUB}), rate=COUNTS_KEYS, routine=True),
    # Of its own slot for a worker, of everything for the others; never a key.
    Row(request=Status, callers=_WORKER | {Caller.ROOT, Caller.OPERATOR}, routine=True),
)
