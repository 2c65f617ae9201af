"""Calls of the kernel in a thread of their own: in order, under a deadline, and together where they may be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from netctl.threads import WorkThread


class Work:
    """Notes what it is called with; the first call lasts until it may end."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_end = threading.Event()

    def __call__(self, payloads: Sequence[int]) -> int:
        self.calls.append(list(payloads))
        assert self.may_end.wait(10)
        if 13 in payloads:
            raise ValueError("thirteen")
        return sum(payloads)


async def all_of(lane: WorkThread, work: Work, numbers: Sequence[int]) -> list[int | BaseException]:
    """Every number asked for at once; the first call may end when the others wait."""
    asked = [asyncio.ensure_future(lane.run_together(work, number, 10)) for number in numbers]
    while not work.calls:
        await asyncio.sleep(0.001)
    work.may_end.set()
    return await asyncio.gather(*asked, return_exceptions=True)


def test_those_who_wait_share_one_call() -> None:
    """What comes while a call runs goes into the next one, in its order, and each has the result of its call."""
    lane, work = WorkThread("test"), Work()
    answers = asyncio.run(all_of(lane, work, [1, 2, 3, 4]))
    assert [number for call in work.calls for number in call] == [1, 2, 3, 4]
    assert len(work.calls) <= 2
    assert answers == [sum(call) for call in work.calls for _ in call]
    lane.close()


def test_an_error_is_its_own_callers() -> None:
    """When the shared call fails each is called alone: the others have their result."""
    lane, work = WorkThread("test"), Work()
    answers = asyncio.run(all_of(lane, work, [1, 2, 13, 4]))
    assert isinstance(answers[2], ValueError)
    assert [answer for answer in answers if not isinstance(answer, BaseException)] == [1, 2, 4]
    lane.close()


def test_other_work_keeps_its_place() -> None:
    """Only neighbours go together: what was asked for in between is done in between."""

    async def scene() -> list[str]:
        story: list[str] = []
        lane, started, go = WorkThread("test"), threading.Event(), threading.Event()

        def first() -> None:
            started.set()
            assert go.wait(10)

        def together(payloads: Sequence[str]) -> None:
            story.append("+".join(payloads))

        asked = [asyncio.ensure_future(lane.run(first, 10))]
        while not started.is_set():
            await asyncio.sleep(0.001)
        asked += [asyncio.ensure_future(lane.run_together(together, name, 10)) for name in "ab"]
        asked.append(asyncio.ensure_future(lane.run(lambda: story.append("alone"), 10)))
        asked += [asyncio.ensure_future(lane.run_together(together, name, 10)) for name in "cd"]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*asked)
        lane.close()
        return story

    assert asyncio.run(scene()) == ["a+b", "alone", "c+d"]


def test_who_is_too_late_is_not_begun() -> None:
    """A call that waits behind one that hangs is given up at its deadline, and never done."""

    async def scene() -> Work:
        lane, work = WorkThread("test"), Work()
        hanging = asyncio.ensure_future(lane.run_together(work, 1, 10))
        while not work.calls:
            await asyncio.sleep(0.001)
        with pytest.raises(asyncio.TimeoutError):
            await lane.run_together(work, 2, 0.05)
        work.may_end.set()
        assert await hanging == 1
        assert await lane.run_together(work, 3, 10) == 3
        lane.close()
        return work

    assert asyncio.run(scene()).calls == [[1], [3]]
