"""Who calls, what that caller may ask, and how much of a server it may use.

    root       UID 0
    worker     a UID of this fleet's range; whatever groups it is in, it is nothing more
    hub        the UID of the hub, where a program has something for its page
    operator   any other UID whose process is in the operators' group
    stranger   everybody else: one line of refusal

Authority is who calls, as the kernel says, never what is sent. What a program is asked is one table of requests. How
much of it: token buckets per UID, and refusals told once a period.
A bucket that is empty makes its caller wait (its socket is not read meanwhile), so that a request too
many costs the server nothing; only connections, which have no patience, are refused at once.
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
"""The longest answer Python's getsockopt takes: 256 groups."""
PATIENCE_SECONDS = 1.0
"""How long a request over its caller's rate waits for its turn before it is refused."""
PERIOD_SECONDS = 10.0
"""Refusals of one caller are logged at the first of them, and then by their number once in this time."""


class Caller(enum.Enum):
    """What a caller is to this fleet."""

    ROOT = "root"
    WORKER = "a worker of this fleet"
    HUB = "the hub"
    OPERATOR = "an operator"
    STRANGER = "anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a connection, as the kernel says."""

    uid: int
    gid: int
    pid: int
    groups: frozenset[int] = frozenset()
    """Supplementary groups of the process when it connected."""


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One client's connection; its identity is what a lease hangs on."""

    peer: Peer
    caller: Caller
    hang_up: Callable[[], object] = field(default=lambda: None, repr=False)
    """Ends the connection from our side; whoever is at the other end finds it closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request. The service's method that answers it has the request's name (`Request.method`)."""

    request: type[Request]
    callers: frozenset[Caller]
    rate: str | None = None
    """A rate beside that of all requests, by its name in `Limits.rates`; a refusal says the name."""
    seconds: float | None = None
    """It may take so long, instead of what every request may (Limits.request_seconds)."""
    routine: bool = False
    """It is asked often and changes nothing: no line in an ordinary log."""


class Table:
    """The requests of PROGRAM. What is in no row is refused to everybody."""

    def __init__(self, program: str, *rows: Row) -> None:
        self.program = program
        self.rows: Mapping[str, Row] = {row.request.method: row for row in rows}
        """By method."""
        self.kinds: Mapping[str, type[Request]] = {method: row.request for method, row in self.rows.items()}
        """What may be decoded (fleet.sockets.wire)."""
        self._known = frozenset[Caller]().union(*(row.callers for row in rows))

    def shuts_out(self, caller: Caller, uid: int) -> str:
        """Why CALLER may not connect; "" for who may ask for anything. The reason is logged and sent."""
        return "" if caller in self._known else f"{self.program} serves {_words(self._known)}, not UID {uid}"

    def refuses(self, caller: Caller, uid: int, request: Request) -> str:
        """Why CALLER may not ask for REQUEST; "" where it may."""
        row = self.rows.get(request.method)
        callers = row.callers if row else frozenset[Caller]()
        return "" if caller in callers else f"{request.method} is for {_words(callers)}, and this is UID {uid}"


def _words(callers: Iterable[Caller]) -> str:
    return " or ".join(sorted(caller.value for caller in callers)) or "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many a second; after a rest BURST of them at once."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one caller (one UID) may use; settings with units. A burst is what it may use at once after a rest."""

    connections_per_uid: int = 8
    connections_per_second: float = 20
    connections_burst: int = 40
    requests_per_second: float = 20
    requests_burst: int = 60
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """Of single requests, by the names that rows of the program's table give them (Row)."""
    frame_seconds: float = 10
    """How long the rest of a started frame may take, and the taking of an answer."""
    request_seconds: float = 30


@dataclass(slots=True)
class Bucket:
    """A token bucket: RATE tokens a second, of which at most BURST are saved up.

    Pure; the clock (seconds of any steady one) is handed in.
    """

    rate: float
    burst: int
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def wait(self, now: float) -> float:
        """Seconds from NOW until a token is there; 0 when there is one."""
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = max(now, self._at)
        # Seconds are no exact numbers: what is nearly a token is one.
        return 0.0 if self._tokens > 1 - 1e-6 else (1 - self._tokens) / self.rate

    def take(self) -> None:
        """Take a token, or one ahead: who comes later waits longer, so those who wait keep their order."""
        self._tokens -= 1


def peer_of(connection: socket.socket) -> Peer:
    """The peer's credentials (unix(7), SO_PEERCRED: fixed when the connection was made)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(uid=uid, gid=gid, pid=pid, groups=_groups(connection))


def _groups(connection: socket.socket) -> frozenset[int]:
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_GROUPS_BYTES)
    except OSError:
        return frozenset()  # more than fit (ERANGE), or a kernel before 4.13: no member of anything then
    return frozenset(struct.unpack(f"{len(found) // 4}I", found))


def only(account: str, what: Caller) -> Callable[[Peer], Caller]:
    """For a program that answers one ACCOUNT: that one is WHAT, and everybody else a stranger."""
    uid = pwd.getpwnam(account).pw_uid
    return lambda peer: what if peer.uid == uid else Caller.STRANGER


def group_number(name: str) -> int | None:
    """The group called NAME; None when there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def turn(bucket: Bucket, patience_seconds: float = 0.0) -> float | None:
    """Seconds until the token of BUCKET that is now taken is there; None, and none taken, beyond PATIENCE_SECONDS."""
    wait = bucket.wait(time.monotonic())
    if wait > patience_seconds:
        return None
    bucket.take()
    return wait


class Account:
    """What one caller uses at the moment."""

    __slots__ = ("connections", "open", "rates", "requests")

    def __init__(self, limits: Limits) -> None:
        self.open = 0
        self.connections = Bucket(limits.connections_per_second, limits.connections_burst)
        self.requests = Bucket(limits.requests_per_second, limits.requests_burst)
        self.rates = {name: Bucket(rate.per_second, rate.burst) for name, rate in limits.rates.items()}


class Refusals:
    """Tells of refusals without letting the refused write the log: two lines a caller and period at most."""

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
