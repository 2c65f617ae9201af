"""The one Unix-socket server skeleton, and its client.

The server knows who calls from `SO_PEERCRED`, asks one permission table, keeps order within a
connection, bounds frames, connections, rates and time (fleet.callers), and tells the service when a
connection ends. It runs in one asyncio loop; the client is plain blocking code, because workers are.

A connection too many costs one accept() and one close(): no task or stream is made for it (fleet.listen).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import tenacity

from fleet import log, wire
from fleet.bucket import Bucket
from fleet.callers import PATIENCE_SECONDS, Account, Refusals, peer_of, turn
from fleet.callers import Limits as Limits  # noqa: PLC0414 - part of the server for everybody else
from fleet.callers import Peer as Peer  # noqa: PLC0414
from fleet.deadline import within
from fleet.errors import FleetError, NotAllowed, ProtocolError, RateLimited, Unavailable
from fleet.listen import Listener
from fleet.listen import refuse_if_served as refuse_if_served  # noqa: PLC0414


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One client's connection; its identity is what a lease hangs on."""

    peer: Peer
    number: int = field(default_factory=itertools.count(1).__next__)
    hang_up: Callable[[], object] = field(default=lambda: None, repr=False)
    """Ends the connection from our side; whoever is at the other end finds it closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a request may pass, and why: the reason is logged for each decision."""

    allowed: bool
    reason: str


class Service(Protocol):
    """What a program does with its requests."""

    async def handle(self, connection: Connection, request: wire.Request) -> wire.Message:
        """The reply, or a FleetError that crosses the socket."""
        ...

    async def closed(self, connection: Connection) -> None:
        """The connection has ended, however that came; whatever it held is to be given back."""
        ...


FRAMES_AHEAD = 4
"""Requests that a client may send ahead of their answers; then it is not read from any more."""
STRANGERS = -1
"""Who may ask for nothing shares one account: it cannot grow with the number of UIDs."""
REFUSALS = (NotAllowed, ProtocolError, RateLimited)
"""Answers that are counted instead of logged: the caller could write the log full with them."""

Permission = Callable[[Peer, wire.Request], Verdict]
Admission = Callable[[Peer], Verdict]


def _everybody(_: Peer) -> Verdict:
    return Verdict(allowed=True, reason="everybody may connect")


class Server:
    """Serves its sockets until it is closed."""

    def __init__(
        self,
        *,
        service: Service,
        permission: Permission,
        limits: Limits,
        program: str,
        admission: Admission = _everybody,
    ) -> None:
        self._service = service
        self._permission = permission
        self._admission = admission
        self._limits = limits
        self._log = log.get(program)
        self._refusals = Refusals(self._log)
        self._accounts: dict[int, Account] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []

    async def start(self, path: Path, mode: int = 0o660) -> None:
        """Listen at PATH, beside others. A socket file somebody answers on is left alone (ConfigurationError)."""
        self._listeners.append(Listener(path, mode, self._let_in, self._log))

    async def close(self) -> None:
        """Stop listening and end every connection; their leases are the service's to keep or end."""
        for listener in self._listeners:
            listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _let_in(self, connection: socket.socket) -> bool:
        """Serve CONNECTION in a task of its own, or refuse it here and now."""
        peer = peer_of(connection)
        verdict = self._admission(peer)
        number = peer.uid if verdict.allowed else STRANGERS
        account = self._accounts.setdefault(number, Account(self._limits))
        if refusal := self._refusal(account, verdict):
            first = self._refusals.add("connection", peer, refusal.message)
            if first or isinstance(refusal, NotAllowed):
                with contextlib.suppress(OSError):
                    connection.send(wire.encode_error(refusal), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            connection.close()
            return False
        connection.setblocking(False)
        account.open += 1
        task = asyncio.ensure_future(self._serve(Connection(peer=peer), account, connection))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("connection.crashed", exc_info=error)

    def _refusal(self, account: Account, verdict: Verdict) -> FleetError | None:
        if turn(account.connections) is None:
            return RateLimited(f"more than {self._limits.connections_per_second:g} connections a second")
        if not verdict.allowed:
            return NotAllowed(verdict.reason)
        if account.open >= self._limits.connections_per_uid:
            return RateLimited(f"more than {self._limits.connections_per_uid} connections at one time")
        return None

    # --- one connection

    async def _serve(self, connection: Connection, account: Account, accepted: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection.hang_up = task.cancel
        reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=wire.FRAME_BYTES)
        try:
            await self._converse(connection, account, reader, writer)
        except (ConnectionError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # the peer is gone, too slow, or we are closing: all end the connection
        finally:
            account.open -= 1
            if writer.transport.get_write_buffer_size():
                # Who does not read would keep the descriptor until it does: close() waits for the buffer.
                writer.transport.abort()
            writer.close()
            await self._service.closed(connection)

    async def _converse(
        self, connection: Connection, account: Account, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read and answer side by side: a hang-up is seen, and ends the request, while it is handled."""
        frames: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_AHEAD)
        tasks = (
            asyncio.ensure_future(self._read_frames(reader, writer, frames)),
            asyncio.ensure_future(self._answer_frames(connection, account, frames, writer)),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            # The service's own clean-up of a cancelled request is waited for.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_frames(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: asyncio.Queue[bytes]
    ) -> None:
        while line := await self._frame(reader, writer):
            await frames.put(line)

    async def _answer_frames(
        self, connection: Connection, account: Account, frames: asyncio.Queue[bytes], writer: asyncio.StreamWriter
    ) -> None:
        while line := await frames.get():
            writer.write(await self._answer(connection, account, line))
            await within(self._limits.frame_seconds, writer.drain())

    async def _frame(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next line, empty at the end; a frame that is too long or too slow ends the connection."""
        first = await reader.read(1)
        if not first or first == b"\n":
            return first
        try:
            rest = await within(self._limits.frame_seconds, reader.readuntil(b"\n"))
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError:
            writer.write(wire.encode_error(ProtocolError(f"a frame may have {wire.FRAME_BYTES} bytes")))
            return b""
        return first + rest

    # --- one request

    async def _answer(self, connection: Connection, account: Account, line: bytes) -> bytes:
        started, request = time.monotonic(), None
        try:
            await _turn(account.requests, "requests")
            request = wire.decode_request(line)
            verdict = self._permission(connection.peer, request)
            if not verdict.allowed:
                raise NotAllowed(verdict.reason)
            if request.takes_key:
                await _turn(account.key_requests, "requests that take a key")
            reply = wire.encode_result(await self._handled(connection, request))
            self._tell(connection, request, "ok", started)
            return reply
        except REFUSALS as error:
            self._refusals.add("request", connection.peer, error.message)
            return wire.encode_error(error)
        except FleetError as error:
            self._tell(connection, request, type(error).__name__, started)
            return wire.encode_error(error)
        except Exception:  # noqa: BLE001 - a fault of ours must not take the other callers down
            method = request.method if request else "?"
            self._log.exception("request.crashed", method=method, uid=connection.peer.uid)
            return wire.encode_error(FleetError(f"{method} failed inside; see the log"))

    async def _handled(self, connection: Connection, request: wire.Request) -> wire.Message:
        seconds = self._limits.request_seconds
        try:
            return await within(seconds, self._service.handle(connection, request))
        except asyncio.TimeoutError:
            raise Unavailable(f"{request.method} took longer than {seconds:g} s") from None

    def _tell(self, connection: Connection, request: wire.Request | None, outcome: str, started: float) -> None:
        routine = request is not None and request.routine and outcome == "ok"
        (self._log.debug if routine else self._log.info)(
            "request.answered",
            method=request.method if request else "?",
            uid=connection.peer.uid,
            pid=connection.peer.pid,
            outcome=outcome,
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )


async def _turn(bucket: Bucket, what: str) -> None:
    """Wait for a token of BUCKET; raises RateLimited, also then not at once, where it takes too long."""
    wait = turn(bucket, PATIENCE_SECONDS)
    if wait != 0:
        await asyncio.sleep(PATIENCE_SECONDS if wait is None else wait)
    if wait is None:
        raise RateLimited(f"more than {bucket.rate:g} {what} a second", hint="wait a moment")


def _parts(seconds: float) -> tuple[int, int]:
    """A struct timeval; nothing in it would be for ever."""
    return int(seconds), max(1, int(seconds % 1 * 1e6))


class Client:
    """A blocking client of one connection; a context manager."""

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self.path = path
        self.timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._buffer = b""

    def open(self, *, wait_seconds: float = 0) -> None:
        """Connect; while nobody listens, keep trying for WAIT_SECONDS. Raises Unavailable."""
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(wait_seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            retry=tenacity.retry_if_exception_type(Unavailable),
            reraise=True,
        ):
            with attempt:
                self._connect()

    def _connect(self) -> None:
        self.close()
        fresh = socket.socket(socket.AF_UNIX)
        try:
            # While the queue is full a socket with Python's time-out fails at once; the kernel's waits for a place.
            fresh.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *_parts(self.timeout_seconds)))
            fresh.connect(str(self.path))
            fresh.settimeout(self.timeout_seconds)
        except PermissionError as error:
            fresh.close()
            raise NotAllowed(f"{self.path}: this user may not open it", hint="run as root") from error
        except OSError as error:
            fresh.close()
            raise Unavailable(
                f"nobody answers at {self.path}: {error.strerror}", hint="is it running? fleet status"
            ) from error
        self._socket = fresh

    def ask(self, request: wire.Request, kind: type[wire.ReplyT]) -> wire.ReplyT:
        """Send REQUEST and wait for its reply; raises the error that comes back, or Unavailable."""
        if self._socket is None:
            raise Unavailable(f"not connected to {self.path}")
        try:
            with contextlib.suppress(BrokenPipeError):  # who hung up may have said why
                self._socket.sendall(wire.encode_request(request))
            return wire.decode_reply(self._line(self._socket), kind)
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.path} went away: {error}") from error

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            chunk = connection.recv(wire.FRAME_BYTES)
            if not chunk or len(self._buffer) > wire.REPLY_BYTES:
                raise ConnectionResetError("closed by the other side")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def fileno(self) -> int:
        """The socket's descriptor, for select; -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Hang up; whatever the connection held is given back."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def __enter__(self) -> Client:
        if self._socket is None:
            self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
