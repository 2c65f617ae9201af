"""Which workers may start a browser now: a limited number of turns at a time, in the order of the requests.

    asked ──▶ waiting ──▶ in turn ──▶ over: its connection ended, it asked again, or its time is over

A worker waits for one turn or has one; asking again gives up the old one. Nothing that a worker does makes its turn
longer. A waiting worker costs netctl only an entry in a dictionary.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from fleet import log
from fleet.errors import NotAllowed
from fleet.model import Worker
from fleet.sockets.callers import Connection
from fleet.sockets.netctl_api import Turn, Turns

TURN_SECONDS = 20.0
"""How long a turn lasts. A browser that takes longer to start goes on, and the next start may begin meanwhile."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Turn:
    connection: Connection
    since: float
    came: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.TimerHandle | None = None


class Queue:
    """The workers that wait for a turn and those that have one, by UID, in the order of their requests."""

    def __init__(self, places: int, seconds: float = TURN_SECONDS) -> None:
        self._places, self._seconds = places, seconds
        self._waiting: dict[int, _Turn] = {}
        self._in_turn: dict[int, _Turn] = {}

    async def wait(self, connection: Connection) -> None:
        """Wait for the turn of CONNECTION's worker; leave() ends the turn. Raises NotAllowed."""
        uid = connection.peer.uid
        if (held := self._of(uid)) is not None:
            if held.connection is connection:
                raise NotAllowed("this connection has its turn already", hint="hang up when it is over")
            self.leave(held.connection)
            held.connection.hang_up()
        mine = self._waiting[uid] = _Turn(connection=connection, since=time.monotonic())
        self._move_up()
        try:
            await mine.came.wait()
        except asyncio.CancelledError:
            self.leave(connection)
            raise

    def leave(self, connection: Connection) -> None:
        """End CONNECTION's turn or its waiting, so that the next worker moves up."""
        held = self._of(connection.peer.uid)
        if held is None or held.connection is not connection:
            return
        if held.over is not None:
            held.over.cancel()
        for places in (self._waiting, self._in_turn):
            places.pop(connection.peer.uid, None)
        self._move_up()

    def seen(self) -> Turns:
        """The workers that have a turn and those that wait, each with its seconds."""
        now = time.monotonic()

        def told(turns: dict[int, _Turn]) -> tuple[Turn, ...]:
            return tuple(Turn(worker=_name(uid), seconds=round(now - one.since, 1)) for uid, one in turns.items())

        return Turns(at_once=self._places, starting=told(self._in_turn), waiting=told(self._waiting))

    def _of(self, uid: int) -> _Turn | None:
        return self._in_turn.get(uid) or self._waiting.get(uid)

    def _move_up(self) -> None:
        while self._waiting and len(self._in_turn) < self._places:
            uid = next(iter(self._waiting))
            turn = self._in_turn[uid] = self._waiting.pop(uid)
            turn.since = time.monotonic()
            turn.over = asyncio.get_running_loop().call_later(self._seconds, self._end, turn)
            turn.came.set()

    def _end(self, turn: _Turn) -> None:
        log.get("netctl").warning("turn.over", worker=_name(turn.connection.peer.uid), seconds=self._seconds)
        self.leave(turn.connection)
        turn.connection.hang_up()


def _name(uid: int) -> str:
    return Worker(uid=uid).name
