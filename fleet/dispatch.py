"""One request from its frame to its reply: rate, permission, deadline, the service's method, a line in the log.

Which requests there are is the program's table (fleet.request_table); nothing here knows one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from fleet import wire
from fleet.callers import PATIENCE_SECONDS, Account, Bucket, Connection, Limits, Refusals, turn
from fleet.deadline import within
from fleet.errors import FleetError, NotAllowed, ProtocolError, RateLimited, Unavailable
from fleet.log import Logger
from fleet.request_table import Row, Table

REFUSALS = (NotAllowed, ProtocolError, RateLimited)
"""Answers that are counted instead of logged: the caller could write the log full with them."""


class Service(Protocol):
    """What a program does with its requests: for each row of its table it has a method of the request's name.

    async def METHOD(self, connection: Connection, request: Request) -> Message

    It returns the reply, or raises a FleetError, which crosses the socket.
    """

    async def closed(self, connection: Connection) -> None:
        """The connection has ended, however that came; whatever it held is to be given back."""
        ...


Method = Callable[[Connection, wire.Request], Coroutine[Any, Any, wire.Message]]


class Dispatcher:
    """Answers the requests of TABLE with the methods of SERVICE."""

    def __init__(self, table: Table, service: Service, *, limits: Limits, refusals: Refusals, logger: Logger) -> None:
        """Raises AttributeError when SERVICE has no method for a row of TABLE."""
        for row in table.rows.values():
            assert row.rate is None or row.rate in limits.rates, f"there is no rate of {row.rate}"
        self._table = table
        self._methods: Mapping[str, Method] = {name: getattr(service, name) for name in table.rows}
        self._seconds = limits.request_seconds
        self._refusals = refusals
        self._log = logger

    async def answer(self, connection: Connection, account: Account, line: bytes) -> bytes:
        """The reply to LINE, or the error it ends in, as a frame."""
        started, row = time.monotonic(), None
        try:
            await _turn(account.requests, "requests")
            request = wire.decode_request(line, self._table.kinds)
            row = self._table.rows[request.method]
            verdict = self._table.allows(connection.caller, connection.peer.uid, request)
            if not verdict.allowed:
                raise NotAllowed(verdict.reason)
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
        except Exception:  # noqa: BLE001 - a fault of ours must not take the other callers down
            method = _name(row)
            self._log.exception("request.crashed", method=method, uid=connection.peer.uid)
            return wire.encode_error(FleetError(f"{method} failed inside; see the log"))

    async def _handled(self, connection: Connection, request: wire.Request) -> wire.Message:
        try:
            return await within(self._seconds, self._methods[request.method](connection, request))
        except asyncio.TimeoutError:
            raise Unavailable(f"{request.method} took longer than {self._seconds:g} s") from None

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


def _name(row: Row | None) -> str:
    """The method of a request; `?` where it was not understood."""
    return row.request.method if row else "?"


async def _turn(bucket: Bucket, what: str) -> None:
    """Wait for a token of BUCKET; raises RateLimited, also then not at once, where it takes too long."""
    wait = turn(bucket, PATIENCE_SECONDS)
    if wait != 0:
        await asyncio.sleep(PATIENCE_SECONDS if wait is None else wait)
    if wait is None:
        raise RateLimited(f"more than {bucket.rate:g} {what} a second", hint="wait a moment")
