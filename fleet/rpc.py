"""The one server of a Unix socket: every program serves its own table of requests with it (fleet.request_table).

It knows who calls from `SO_PEERCRED`, keeps order within a connection, bounds frames, connections and time
(fleet.callers), and tells the service when a connection ends. It runs in one asyncio loop. What becomes of a request:
fleet.dispatch; the other end: fleet.client.

A connection too many costs one accept() and one close(): no task or stream is made for it (fleet.listen).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from fleet import log, wire
from fleet.callers import Account, Connection, Limits, Peer, Refusals, peer_of, turn
from fleet.deadline import within
from fleet.dispatch import Dispatcher, Service
from fleet.errors import FleetError, NotAllowed, ProtocolError, RateLimited
from fleet.listen import Listener
from fleet.request_table import Caller, Table, Verdict

FRAMES_AHEAD = 4
"""Requests that a client may send ahead of their answers; then it is not read from any more."""
STRANGERS = -1
"""Who may ask for nothing shares one account: it cannot grow with the number of UIDs."""


class Server:
    """Serves its sockets until it is closed."""

    def __init__(self, table: Table, service: Service, *, caller: Callable[[Peer], Caller], limits: Limits) -> None:
        """CALLER says what a peer is. LIMITS have a rate for each name of one in TABLE."""
        self._table = table
        self._service = service
        self._caller = caller
        self._limits = limits
        self._log = log.get(table.program)
        self._refusals = Refusals(self._log)
        self._dispatcher = Dispatcher(table, service, limits=limits, refusals=self._refusals, logger=self._log)
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
        caller = self._caller(peer)
        verdict = self._table.admits(caller, peer.uid)
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
        task = asyncio.ensure_future(self._serve(Connection(peer=peer, caller=caller), account, connection))
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
            writer.write(await self._dispatcher.answer(connection, account, line))
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
