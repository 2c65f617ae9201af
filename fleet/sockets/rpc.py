"""The server of a Unix socket: every program serves its own table of requests with it (fleet.sockets.callers).

It identifies callers by `SO_PEERCRED`, keeps the order within a connection, bounds frames, connections and time
(fleet.sockets.callers), answers each request (rate, permission, deadline, the service's method, a log line), and
notifies the service when a connection ends. It runs in one asyncio loop. The client is fleet.sockets.client.

An excess connection costs one accept() and one close(): no task or stream is made for it (fleet.sockets.listen).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from fleet import log
from fleet.errors import FleetError, NotAllowed, ProtocolError, RateLimited, Unavailable
from fleet.sockets import wire
from fleet.sockets.callers import (
    PATIENCE_SECONDS,
    Account,
    Bucket,
    Caller,
    Connection,
    Limits,
    Peer,
    Refusals,
    Row,
    Table,
    peer_of,
    turn,
)
from fleet.sockets.deadline import within
from fleet.sockets.listen import Listener

FRAMES_AHEAD = 4
"""How many requests a client may send ahead of the replies; then its socket is not read."""
STRANGERS = -1
"""The one account of all callers that may send no request, so that accounts do not grow with the number of UIDs."""

REFUSALS = (NotAllowed, ProtocolError, RateLimited)
"""Errors that are counted and not logged each time, because a caller could flood the log with them."""


class Service(Protocol):
    """A program's side: for each row of its table it has a method with the request's name.

    async def METHOD(self, connection: Connection, request: Request) -> Message

    It returns the reply, or raises a FleetError, which crosses the socket.
    """

    async def closed(self, connection: Connection) -> None:
        """The connection has ended, for any reason; release what it held."""


Method = Callable[[Connection, wire.Request], Coroutine[Any, Any, wire.Message]]


class Server:
    """Serves its sockets until close()."""

    def __init__(self, table: Table, service: Service, *, caller: Callable[[Peer], Caller], limits: Limits) -> None:
        """CALLER classifies peers. LIMITS must have every rate that TABLE names.

        Raises AttributeError when SERVICE has no method for a row of TABLE.
        """
        for row in table.rows.values():
            assert row.rate is None or row.rate in limits.rates, f"there is no rate of {row.rate}"
        self._table = table
        self._service = service
        self._methods: Mapping[str, Method] = {name: getattr(service, name) for name in table.rows}
        self._caller = caller
        self._limits = limits
        self._log = log.get(table.program)
        self._refusals = Refusals(self._log)
        self._accounts: dict[int, Account] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []

    async def start(self, path: Path, mode: int = 0o660) -> None:
        """Listen at PATH too. Raises ConfigurationError when another program already answers there."""
        self._listeners.append(Listener(path, mode, self._let_in, self._log))

    async def serve(self, path: Path, **told: object) -> None:
        """Serve at PATH until SIGTERM or SIGINT; TOLD is added to the log line that says it is ready."""
        stop = asked_to_end()
        await self.start(path)
        self._log.info(f"{self._table.program}.ready", pid=os.getpid(), **told)
        await stop.wait()
        await self.close()
        path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Stop listening and end every connection; the service decides what becomes of their leases."""
        for listener in self._listeners:
            listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _let_in(self, connection: socket.socket) -> bool:
        """Serve CONNECTION in its own task, or refuse it at once; returns whether it is served."""
        peer = peer_of(connection)
        caller = self._caller(peer)
        shut_out = self._table.shuts_out(caller, peer.uid)
        account = self._accounts.setdefault(STRANGERS if shut_out else peer.uid, Account(self._limits))
        if refusal := self._refusal(account, shut_out):
            first = self._refusals.add("connection", peer, refusal.message)
            if first or isinstance(refusal, NotAllowed):
                with contextlib.suppress(OSError):
                    connection.send(wire.encode_error(refusal), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            connection.close()
            return False
        connection.setblocking(False)
        account.open += 1
        task = asyncio.ensure_future(self._serve(Connection(peer=peer, caller=caller), account, connection))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("connection.crashed", exc_info=error)

    def _refusal(self, account: Account, shut_out: str) -> FleetError | None:
        if turn(account.connections) is None:
            return RateLimited(f"more than {self._limits.connections_per_second:g} connections a second")
        if shut_out:
            return NotAllowed(shut_out)
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
                # close() waits for the buffer: a client that does not read would keep the descriptor open.
                writer.transport.abort()
            writer.close()
            await self._service.closed(connection)

    async def _converse(
        self, connection: Connection, account: Account, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Read and answer concurrently, so that a hang-up is noticed during a request, and cancels it."""
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
            # Wait for the service's clean-up of a cancelled request.
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
        """The next line; empty at the end. A frame that is too long or too slow ends the connection."""
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
        """The reply to LINE, or its error, as a frame."""
        started, row = time.monotonic(), None
        try:
            await _turn(account.requests, "requests")
            request = wire.decode_request(line, self._table.kinds)
            row = self._table.rows[request.method]
            if why := self._table.refuses(connection.caller, connection.peer.uid, request):
                raise NotAllowed(why)
            if row.rate is not None:
                await _turn(account.rates[row.rate], row.rate)
            reply = wire.encode_result(await self._handled(connection, request))
            self._tell(connection, row, "ok", started)
            return reply
        except REFUSALS as error:
            self._refusals.add("request", connection.peer, error.message)
            return wire.encode_error(error)
        except FleetError as error:
            self._tell(connection, row, type(error).__name__, started)
            return wire.encode_error(error)
        except Exception:  # noqa: BLE001 - a bug here must not affect other callers
            method = _name(row)
            self._log.exception("request.crashed", method=method, uid=connection.peer.uid)
            return wire.encode_error(FleetError(f"{method} failed inside; see the log"))

    async def _handled(self, connection: Connection, request: wire.Request) -> wire.Message:
        seconds = self._table.rows[request.method].seconds or self._limits.request_seconds
        try:
            return await within(seconds, self._methods[request.method](connection, request))
        except asyncio.TimeoutError:
            raise Unavailable(f"{request.method} took longer than {seconds:g} s") from None

    def _tell(self, connection: Connection, row: Row | None, outcome: str, started: float) -> None:
        routine = row is not None and row.routine and outcome == "ok"
        (self._log.debug if routine else self._log.info)(
            "request.answered",
            method=_name(row),
            uid=connection.peer.uid,
            pid=connection.peer.pid,
            outcome=outcome,
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )


def asked_to_end() -> asyncio.Event:
    """An event that is set on SIGTERM or SIGINT, which the running loop handles from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _name(row: Row | None) -> str:
    """The method of a request; `?` if it could not be decoded."""
    return row.request.method if row else "?"


async def _turn(bucket: Bucket, what: str) -> None:
    """Wait for a token of BUCKET; raises RateLimited, after PATIENCE_SECONDS, if that would take longer."""
    wait = turn(bucket, PATIENCE_SECONDS)
    if wait != 0:
        await asyncio.sleep(PATIENCE_SECONDS if wait is None else wait)
    if wait is None:
        raise RateLimited(f"more than {bucket.rate:g} {what} a second", hint="wait a moment")
