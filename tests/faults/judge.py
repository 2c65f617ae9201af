"""One line of the fault table, and how it is judged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.faults import causes
from tests.faults.scene import Scene
from tests.waiting import until

BACK_SECONDS = 10.0
GONE_SECONDS = 15.0
"""A server or device that says nothing for so long is given up (docs/architecture.md, health)."""
UNHURT_SECONDS = 3.0
"""Who is not concerned is never silent for longer: on a busy machine exchanges wait for a processor."""
TRIES_A_SECOND = 200
LATE_SECONDS = 10.0
"""So much longer is waited, to tell late from never."""
TABLE = ["| fault | leak | back after | worker silent | neighbour silent |", "|---|---|---|---|---|"]
"""As it is measured, and as docs/security.md shows it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One line of the table."""

    name: str
    cause: causes.Cause
    hits: Literal["nobody", "one", "all"]
    """Whose stream may stop: none, that of the worker concerned, or all."""
    lasts_seconds: float = 0
    """How long the cause is there."""
    stays: bool = False
    """The cause stays until the slot works again in spite of it."""
    within_seconds: float = BACK_SECONDS
    """Counted from the end of the cause; from its begin where it stays."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The streams that have to come back."""
        return (0, 1) if self.hits == "all" else (0,)


def check(scene: Scene, fault: Fault) -> None:
    """Zero packets past the tunnels, no foreign exit, the neighbour works on, and the slot is back in time."""
    begin = time.monotonic()
    with fault.cause(scene) or contextlib.nullcontext():
        there = time.monotonic()
        passed(fault.lasts_seconds)
        back = back_after(scene, fault.indices, there, fault.within_seconds) if fault.stays else None
    ended = time.monotonic()
    if not fault.stays:
        back = back_after(scene, fault.indices, ended, fault.within_seconds)
    whole = stands_again(scene)
    end = time.monotonic()
    seen = judged(scene, fault.name, begin, end, back)
    assert back is not None and back <= fault.within_seconds, f"back after {back} s\n{scene.picture()}"
    assert whole, f"the layers are not what they were:\n{scene.difference()}"
    if fault.hits != "all":
        assert seen.neighbour < UNHURT_SECONDS, "the neighbour stopped"
    if fault.hits == "nobody":
        assert seen.gap < UNHURT_SECONDS, "the worker stopped"


@dataclass(frozen=True, kw_only=True)
class Silence:
    """The longest times, in seconds, in which two streams got nothing through."""

    gap: float
    """Of the worker concerned."""
    neighbour: float


def judged(scene: Scene, name: str, begin: float, end: float, back: float | None) -> Silence:
    """Add a row to the table; fails when anything went past the tunnels, or came out at an exit that was not leased.

    BACK are the seconds until the slot carried its stream again, from the end of the cause (its begin where it stays).
    """
    leaks, (gap, neighbour) = scene.capture.lines(), (stream.gap(begin, end) for stream in scene.streams)
    tries = sum(stream.tries(begin, end) for stream in scene.streams)
    after = "never" if back is None else f"{back:.1f} s"
    TABLE.append(f"| {name} | {len(leaks)} of {tries} tries | {after} | {gap:.1f} s | {neighbour:.1f} s |")
    print(TABLE[-1])
    assert leaks == []
    assert scene.mishaps() == []
    for stream in scene.streams:
        assert stream.wrong_exits(begin) == []
        assert stream.tries(begin, end) > TRIES_A_SECOND * (end - begin), "too few tries to mean something"
    return Silence(gap=gap, neighbour=neighbour)


def back_after(
    scene: Scene, indices: Sequence[int], since: float, within_seconds: float = BACK_SECONDS
) -> float | None:
    """Seconds from SINCE until the streams at INDICES go again, None when they do not."""

    def look() -> float:
        moments = [scene.works(index, since) for index in indices]
        return max(moment or 0 for moment in moments) if all(moments) else 0

    with contextlib.suppress(pytest.fail.Exception):
        return until("back", look, within_seconds + LATE_SECONDS) - since
    return None


def stands_again(scene: Scene) -> bool:
    """Whether every layer is again as it was, in time."""
    with contextlib.suppress(pytest.fail.Exception):
        return until("the layers stand", lambda: not scene.difference(), BACK_SECONDS)
    return False


def passed(seconds: float) -> None:
    """The time goes by; what happens meanwhile is the test."""
    end = time.monotonic() + seconds
    until("the time goes by", lambda: time.monotonic() >= end, seconds + 1)
