"""The one Unix-socket server skeleton, and its client.

The server knows who calls from `SO_PEERCRED`, asks one permission table, keeps order within a
connection, bounds frames, connections and time, and tells the service when a connection ends. It runs
in one asyncio loop; the client is plain blocking code, because workers are.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import tenacity

from fleet import log, wire
from fleet.deadline import within
from fleet.errors import ConfigurationError, FleetError, NotAllowed, ProtocolError, RateLimited, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of a connection, as the kernel says."""

    uid: int
    gid: int
    pid: int


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


FRAMES_AHEAD = 16
"""Requests that a client may send ahead of their answers; then it is not read from any more."""

Permission = Callable[[Peer, wire.Request], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one caller may use; settings with units."""

    connections_per_uid: int = 8
    idle_frame_seconds: float = 30
    """How long the rest of a started frame may take."""
    request_seconds: float = 30


def peer_of(connection: socket.socket) -> Peer:
    """The peer's credentials (unix(7), SO_PEERCRED: fixed when the connection was made)."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(uid=uid, gid=gid, pid=pid)


class Server:
    """Serves one socket until it is closed."""

    def __init__(self, *, service: Service, permission: Permission, limits: Limits, program: str) -> None:
        self._service = service
        self._permission = permission
        self._limits = limits
        self._log = log.get(program)
        self._connections: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.AbstractServer | None = None

    async def start(self, path: Path, mode: int = 0o660) -> None:
        """Listen at PATH. A socket file somebody answers on is left alone (ConfigurationError)."""
        refuse_if_served(path)
        path.unlink(missing_ok=True)
        umask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._accept, path=path, limit=wire.FRAME_BYTES)
        finally:
            os.umask(umask)
        path.chmod(mode)

    async def close(self) -> None:
        """Stop listening and end every connection; their leases are the service's to keep or end."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(peer=peer_of(writer.get_extra_info("socket")), hang_up=task.cancel)
        uid = connection.peer.uid
        self._connections[uid] += 1
        try:
            if self._connections[uid] > self._limits.connections_per_uid:
                writer.write(wire.encode_error(RateLimited(f"uid {uid} has too many connections")))
            else:
                await self._converse(connection, reader, writer)
        except (ConnectionError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # the peer is gone, too slow, or we are closing: all end the connection
        finally:
            self._tasks.discard(task)
            self._connections[uid] -= 1
            if not self._connections[uid]:
                del self._connections[uid]
            writer.close()
            await self._service.closed(connection)

    async def _converse(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read and answer side by side: a hang-up is seen, and ends the request, while it is handled."""
        frames: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_AHEAD)
        tasks = (
            asyncio.ensure_future(self._read_frames(reader, writer, frames)),
            asyncio.ensure_future(self._answer_frames(connection, frames, writer)),
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
        self, connection: Connection, frames: asyncio.Queue[bytes], writer: asyncio.StreamWriter
    ) -> None:
        while line := await frames.get():
            writer.write(await self._answer(connection, line))
            await within(self._limits.idle_frame_seconds, writer.drain())

    async def _frame(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The next line, empty at the end; a frame that is too long or too slow ends the connection."""
        first = await reader.read(1)
        if not first or first == b"\n":
            return b""
        try:
            rest = await within(self._limits.idle_frame_seconds, reader.readuntil(b"\n"))
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError:
            writer.write(wire.encode_error(ProtocolError(f"a frame may have {wire.FRAME_BYTES} bytes")))
            return b""
        return first + rest

    async def _answer(self, connection: Connection, line: bytes) -> bytes:
        started = time.monotonic()
        method, outcome = "?", "ok"
        try:
            request = wire.decode_request(line)
            method = request.method
            verdict = self._permission(connection.peer, request)
            if not verdict.allowed:
                raise NotAllowed(verdict.reason)
            reply = await within(self._limits.request_seconds, self._service.handle(connection, request))
            return wire.encode_result(reply)
        except FleetError as error:
            outcome = type(error).__name__
            return wire.encode_error(error)
        except asyncio.TimeoutError:
            outcome = "Unavailable"
            return wire.encode_error(Unavailable(f"{method} took longer than {self._limits.request_seconds:g} s"))
        except Exception:  # noqa: BLE001 - a fault of ours must not take the other callers down
            outcome = "FleetError"
            self._log.exception("request.crashed", method=method, uid=connection.peer.uid)
            return wire.encode_error(FleetError(f"{method} failed inside; see the log"))
        finally:
            self._log.info(
                "request.answered",
                method=method,
                uid=connection.peer.uid,
                pid=connection.peer.pid,
                outcome=outcome,
                milliseconds=round((time.monotonic() - started) * 1000, 1),
            )


def refuse_if_served(path: Path) -> None:
    """Raise ConfigurationError when somebody answers at PATH; only a silent socket file is stale."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        holder = peer_of(probe).pid
    raise ConfigurationError(f"{path} is already served by process {holder}", hint=f"stop it first: kill {holder}")


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
        fresh.settimeout(self.timeout_seconds)
        try:
            fresh.connect(str(self.path))
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
            self._socket.sendall(wire.encode_request(request))
            return wire.decode_reply(self._line(self._socket), kind)
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.path} went away: {error}") from error

    def _line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._buffer:
            chunk = connection.recv(wire.FRAME_BYTES)
            if not chunk:
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
