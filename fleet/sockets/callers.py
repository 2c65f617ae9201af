"""Identifies callers, decides which requests they may send, and limits how much of a server they use.

    root       UID 0
    worker     a UID of this fleet's range, whatever groups it is in
    hub        the UID of the hub, for programs with requests for its page
    operator   any other UID whose process is in the operators' group
    stranger   any other; it gets one line of refusal

Authority depends on the caller as the kernel reports it, never on what is sent. Each program has one table of requests.
Use is limited by token buckets per UID, and refusals are logged once per period.
A caller whose bucket is empty waits (its socket is not read meanwhile), so an excess request costs the server
nothing; only excess connections are refused at once.
"""

from __future__ import annotations

import asyncio
import enum
import grp
import pwd
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fleet.log import Logger
from fleet.sockets.wire import Request

SO_PEERGROUPS = 59
"""include/uapi/asm-generic/socket.h; Python 3.10 does not name it."""
MOST_GROUPS_BYTES = 1024
"""The longest result that Python's getsockopt accepts: 256 groups."""
PATIENCE_SECONDS = 1.0
"""How long a request over its caller's rate waits before it is refused."""
PERIOD_SECONDS = 10.0
"""The first refusal of a caller is logged, then the number of further ones once per period."""


class Caller(enum.Enum):
    """The kinds of caller."""

    ROOT = "root"
    WORKER = "a worker of this fleet"
    HUB = "the hub"
    OPERATOR = "an operator"
    STRANGER = "anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process at the other end of a connection, as the kernel reports it."""

    uid: int
    gid: int
    pid: int
    groups: frozenset[int] = frozenset()
    """Supplementary groups of the process when it connected."""


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One client's connection; a lease belongs to its connection."""

    peer: Peer
    caller: Caller
    hang_up: Callable[[], object] = field(default=lambda: None, repr=False)
    """Closes the connection from our side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request. It is answered by the service's method of the same name (`Request.method`)."""

    request: type[Request]
    callers: frozenset[Caller]
    rate: str | None = None
    """The name of an additional rate in `Limits.rates`; a refusal contains the name."""
    seconds: float | None = None
    """Its own deadline, instead of the common one (Limits.request_seconds)."""
    routine: bool = False
    """Frequent and without effect: logged only at level debug."""


class Table:
    """The requests of PROGRAM. A request without a row is refused for every caller."""

    def __init__(self, program: str, *rows: Row) -> None:
        self.program = program
        self.rows: Mapping[str, Row] = {row.request.method: row for row in rows}
        """The rows by method."""
        self.kinds: Mapping[str, type[Request]] = {method: row.request for method, row in self.rows.items()}
        """The requests that may be decoded (fleet.sockets.wire), by method."""
        self._known = frozenset[Caller]().union(*(row.callers for row in rows))

    def shuts_out(self, caller: Caller, uid: int) -> str:
        """Why CALLER may not connect; "" if it may send at least one request. The reason is logged and sent."""
        return "" if caller in self._known else f"{self.program} serves {_words(self._known)}, not UID {uid}"

    def refuses(self, caller: Caller, uid: int, request: Request) -> str:
        """Why CALLER may not send REQUEST; "" if it may."""
        row = self.rows.get(request.method)
        callers = row.callers if row else frozenset[Caller]()
        return "" if caller in callers else f"{request.method} is for {_words(callers)}, and this is UID {uid}"


def _words(callers: Iterable[Caller]) -> str:
    return " or ".join(sorted(caller.value for caller in callers)) or "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """PER_SECOND on average, up to BURST at once after a pause."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one caller (one UID). A burst is what it may use at once after a pause."""

    connections_per_uid: int = 8
    connections_per_second: float = 20
    connections_burst: int = 40
    requests_per_second: float = 20
    requests_burst: int = 60
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """Additional rates of single requests, by the names in the rows of the program's table (Row.rate)."""
    frame_seconds: float = 10
    """How long the rest of a started frame may take, and the client's reading of an answer."""
    request_seconds: float = 30


@dataclass(slots=True)
class Bucket:
    """A token bucket: RATE tokens a second, of which at most BURST are saved up.

    Pure; the caller passes the time (seconds of any monotonic clock).
    """

    rate: float
    burst: int
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def wait(self, now: float) -> float:
        """Seconds from NOW until a token is available; 0 when one is."""
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)
        # Floating point is inexact: nearly a token counts as one.
        return 0.0 if self._tokens > 1 - 1e-6 else (1 - self._tokens) / self.rate

    def take(self) -> None:
        """Take a token, in advance if necessary: later requests then wait longer, so waiting ones keep their order."""
        self._tokens -= 1


def peer_of(connection: socket.socket) -> Peer:
    """The peer's credentials (unix(7), SO_PEERCRED: fixed when the connection was made)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(uid=uid, gid=gid, pid=pid, groups=_groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:
        return frozenset()  # more groups than fit (ERANGE), or a kernel before 4.13: treated as without groups
    return frozenset(struct.unpack(f"{len(found) // 4}I", found))


def only(account: str, what: Caller) -> Callable[[Peer], Caller]:
    """A classifier for a program that answers only one ACCOUNT: that is WHAT, any other caller a stranger."""
    uid = pwd.getpwnam(account).pw_uid
    return lambda peer: what if peer.uid == uid else Caller.STRANGER


def group_number(name: str) -> int | None:
    """The number of the group NAME; None when there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def turn(bucket: Bucket, patience_seconds: float = 0.0) -> float | None:
    """Take a token of BUCKET; returns the seconds to wait for it, or None, without taking, above PATIENCE_SECONDS."""
    wait = bucket.wait(time.monotonic())
    if wait > patience_seconds:
        return None
    bucket.take()
    return wait


class Account:
    """One caller's open connections and buckets."""

    __slots__ = ("connections", "open", "rates", "requests")

    def __init__(self, limits: Limits) -> None:
        self.open = 0
        self.connections = Bucket(limits.connections_per_second, limits.connections_burst)
        self.requests = Bucket(limits.requests_per_second, limits.requests_burst)
        self.rates = {name: Bucket(rate.per_second, rate.burst) for name, rate in limits.rates.items()}


class Refusals:
    """Logs refusals, at most two lines per caller and period, so that a refused caller cannot flood the log."""

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._more: dict[tuple[str, int], int] = {}

    def add(self, what: str, peer: Peer, reason: str) -> bool:
        """Count a refusal of WHAT (`connection`, `request`); True for the first of a period, which is logged."""
        key = what, peer.uid
        if key in self._more:
            self._more[key] += 1
            return False
        self._more[key] = 0
        asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._end, key)
        self._log.warning(f"{what}.refused", uid=peer.uid, pid=peer.pid, reason=reason)
        return True

    def _end(self, key: tuple[str, int]) -> None:
        what, uid = key
        more = self._more.pop(key)
        if more:
            self._log.warning(f"{what}.refused_more", uid=uid, count=more, seconds=PERIOD_SECONDS)
