"""A deadline around a coroutine through which no cancellation is lost.

`asyncio.wait_for` before Python 3.12 swallows a cancellation that arrives when the work has just ended
(CPython issue 86296): a worker that hung up while netctl asked for its handshake, every millisecond, was
then served to the end of its request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of WORK; raises asyncio.TimeoutError when it takes longer than SECONDS.

    Timed out or cancelled, WORK is cancelled, and its own clean-up is waited for.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _end(task)
        raise
    if not done:
        await _end(task)
        if task.cancelled():
            raise asyncio.TimeoutError
    return task.result()


async def set_within(seconds: float | None, event: asyncio.Event) -> None:
    """EVENT is set, or SECONDS are over; None: however long it takes."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=seconds)
    finally:
        waiting.cancel()


async def readable(descriptor: int, seconds: float) -> bool:
    """Whether DESCRIPTOR has something to read (a pidfd has when its process has ended) within SECONDS."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[bool] = loop.create_future()

    def tell(what: bool) -> None:
        if not ready.done():
            ready.set_result(what)

    loop.add_reader(descriptor, tell, True)
    late = loop.call_later(seconds, tell, False)
    try:
        return await ready
    finally:
        late.cancel()
        loop.remove_reader(descriptor)  # before it is closed: its number may be another's then


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of WORK, which no cancellation stops; one that came meanwhile is raised behind it.

    asyncio.shield leaves its caller at once: locks are let go while the work still needs them.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what the caller hears of
        raise asyncio.CancelledError
    return task.result()


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: asyncio would log it as never retrieved
