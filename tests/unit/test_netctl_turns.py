"""Turns to start a browser: in order, so many at once, one a worker, and none longer than its time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine

import pytest

from fleet.errors import NotAllowed
from fleet.sockets.callers import Caller, Connection, Peer
from netctl.turns import Queue


def in_a_loop(test: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
    """TEST in an event loop of its own."""
    return functools.wraps(test)(lambda: asyncio.run(test()))


class Worker:
    """One connection of a worker's, and what it waits for."""

    def __init__(self, queue: Queue, uid: int) -> None:
        self.hung_up = False
        peer = Peer(uid=uid, gid=0, pid=1)
        self.connection = Connection(peer=peer, caller=Caller.WORKER, hang_up=self._hang_up)
        self._queue = queue
        self.asked = asyncio.ensure_future(queue.wait(self.connection))

    def _hang_up(self) -> None:
        self.hung_up = True

    @property
    def in_turn(self) -> bool:
        return self.asked.done() and not self.asked.cancelled() and self.asked.exception() is None

    def leave(self) -> None:
        """Its connection ends, as the server tells of it."""
        self.asked.cancel()
        self._queue.leave(self.connection)


async def workers(queue: Queue, *uids: int) -> list[Worker]:
    """They have asked one after the other."""
    made = [Worker(queue, uid) for uid in uids]
    await settle()
    return made


async def settle() -> None:
    """Everything that can go on has gone on."""
    for _ in range(5):
        await asyncio.sleep(0)


@in_a_loop
async def test_so_many_at_once_and_the_first_first() -> None:
    """Two of four are in turn; each that ends makes room for the one that has waited longest."""
    queue = Queue(2)
    first, second, third, fourth = made = await workers(queue, 1101, 1102, 1103, 1104)
    assert [one.in_turn for one in made] == [True, True, False, False]
    seen = queue.seen()
    assert [one.worker for one in seen.starting] == ["w1101", "w1102"]
    assert [one.worker for one in seen.waiting] == ["w1103", "w1104"]
    assert str(seen) == "browser starts: w1101 for 0 s, w1102 for 0 s, 2 waiting"
    second.leave()
    await settle()
    assert third.in_turn and not fourth.in_turn
    first.leave()
    third.leave()
    await settle()
    assert fourth.in_turn
    fourth.leave()
    assert str(queue.seen()) == "browser starts: none"


@in_a_loop
async def test_who_leaves_while_it_waits_is_not_waited_for() -> None:
    """A connection that ends while it waits costs the others nothing."""
    queue = Queue(1)
    first, second, third = await workers(queue, 1101, 1102, 1103)
    second.leave()
    first.leave()
    await settle()
    assert third.in_turn and [one.worker for one in queue.seen().starting] == ["w1103"]


@in_a_loop
async def test_a_turn_is_over_after_its_time() -> None:
    """Who holds its turn loses it, is hung up on, and the next one goes on."""
    queue = Queue(1, seconds=0.05)
    holder, next_one = await workers(queue, 1101, 1102)
    await asyncio.wait({next_one.asked}, timeout=5)
    assert next_one.in_turn and holder.hung_up and not next_one.hung_up


@in_a_loop
async def test_without_a_deadline_one_holder_stops_all() -> None:
    """The control: with a turn that lasts, nobody else's comes."""
    queue = Queue(1, seconds=1000)
    holder, next_one = await workers(queue, 1101, 1102)
    await asyncio.wait({next_one.asked}, timeout=0.2)
    assert not next_one.in_turn and not holder.hung_up
    next_one.leave()


@in_a_loop
async def test_asking_again_lengthens_nothing() -> None:
    """A second request of a worker's gives up the first, in turn or waiting, and stands at the end of the queue."""
    queue = Queue(1)
    first, neighbour = await workers(queue, 1101, 1102)
    (again,) = await workers(queue, 1101)
    assert first.hung_up and neighbour.in_turn and not again.in_turn
    (third,) = await workers(queue, 1101)
    assert again.hung_up and [one.worker for one in queue.seen().waiting] == ["w1101"]
    again.leave()  # its connection's end takes nothing from the one that came after it
    neighbour.leave()
    await settle()
    assert third.in_turn


@in_a_loop
async def test_one_turn_for_one_connection() -> None:
    """On the connection that has its turn, or waits for it, another request is refused."""
    queue = Queue(1)
    first, second = await workers(queue, 1101, 1102)
    for one in (first, second):
        with pytest.raises(NotAllowed, match="has its turn already"):
            await queue.wait(one.connection)
    assert first.in_turn and not first.hung_up
    second.leave()
