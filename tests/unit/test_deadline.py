"""A deadline around a coroutine: its result, its time-out, and no cancellation lost at any moment."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from fleet.sockets.deadline import set_within, to_the_end, within

Deadline = Callable[[float, Coroutine[Any, Any, int]], Awaitable[int]]
MOMENTS = range(6)
"""How many turns of the loop lie between the end of the work and the cancellation."""


def lost(deadline: Deadline, turns: int) -> bool:
    """Whether a caller that is cancelled TURNS loop turns after the end of its work continues uncancelled."""

    async def run() -> bool:
        ready = asyncio.Event()

        async def work() -> int:
            await ready.wait()
            return 1

        async def caller() -> None:
            await deadline(10, work())
            for _ in MOMENTS:
                await asyncio.sleep(0)

        task = asyncio.ensure_future(caller())
        for _ in range(4):
            await asyncio.sleep(0)
        ready.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        await asyncio.wait({task})
        return cancelled and not task.cancelled()

    return asyncio.run(run())


@pytest.mark.parametrize("turns", MOMENTS)
def test_a_cancellation_is_never_lost(turns: int) -> None:
    """A caller that is cancelled just before, at or just after the end of its work ends."""
    assert not lost(within, turns)


def test_the_loss_would_be_seen() -> None:
    """Positive control: asyncio.wait_for of this Python loses a cancellation exactly where that is known."""

    def wait_for(seconds: float, work: Coroutine[Any, Any, int]) -> Awaitable[int]:
        return asyncio.wait_for(work, seconds)

    assert any(lost(wait_for, turns) for turns in MOMENTS) == (sys.version_info < (3, 12))


def test_result_and_error_of_the_work() -> None:
    """What the work returns or raises is what the caller gets."""

    async def fails() -> int:
        raise KeyError("mine")

    async def run() -> None:
        assert await within(5, asyncio.sleep(0, 7)) == 7
        with pytest.raises(KeyError, match="mine"):
            await within(5, fails())

    asyncio.run(run())


def test_time_out_waits_for_the_clean_up() -> None:
    """Work that is too slow gives TimeoutError, after its own clean-up is over."""

    async def run() -> list[str]:
        seen: list[str] = []

        async def slow() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                seen.append("cleaned up")

        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, slow())
        return seen

    assert asyncio.run(run()) == ["cleaned up"]


def test_work_that_must_end_ends_before_its_cancelled_caller() -> None:
    """Cancelled twice, the caller still waits for the work; with asyncio.shield it would have left before."""

    async def both(keep: Callable[[Coroutine[Any, Any, None]], Awaitable[None]]) -> list[str]:
        said: list[str] = []
        gate = asyncio.Event()

        async def work() -> None:
            await gate.wait()
            said.append("work")

        async def caller() -> None:
            try:
                await keep(work())
            finally:
                said.append("caller")

        task = asyncio.ensure_future(caller())
        for _ in range(2):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(3):
            await asyncio.sleep(0)
        return said

    assert asyncio.run(both(to_the_end)) == ["work", "caller"]
    assert asyncio.run(both(asyncio.shield)) == ["caller", "work"], "positive control"


def test_who_waits_for_an_event_again_and_again_leaves_nothing_behind() -> None:
    """Waiting every few seconds, for weeks, costs no memory; an event that is set ends the wait at once."""

    async def run() -> int:
        event = asyncio.Event()
        for _ in range(20):
            await set_within(0.001, event)
        event.set()
        await asyncio.wait_for(set_within(None, event), 5)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
