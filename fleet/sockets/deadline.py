"""Deadlines for coroutines that lose no cancellation.

`asyncio.wait_for` before Python 3.12 swallows a cancellation that arrives when the work has just ended
(CPython issue 86296): when a worker hung up while netctl polled its handshake, every millisecond, netctl
went on with its request to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of WORK; raises asyncio.TimeoutError when it takes longer than SECONDS.

    On time-out or cancellation WORK is cancelled, and its clean-up is awaited.
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
    """Wait until EVENT is set, or for SECONDS at most; None: without a limit."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=seconds)
    finally:
        waiting.cancel()


async def readable(descriptor: int, seconds: float) -> bool:
    """Whether DESCRIPTOR becomes readable within SECONDS (a pidfd does when its process ends)."""
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
        loop.remove_reader(descriptor)  # before it is closed, because its number is then reused


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of WORK, which runs to its end; a cancellation that arrives meanwhile is raised after it.

    asyncio.shield would return to its caller at once, which would release locks that WORK still needs.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not task.cancelled():
            task.exception()  # retrieved, because the caller gets only the cancellation
        raise asyncio.CancelledError
    return task.result()


async def _end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # retrieved, because asyncio would log it otherwise
