"""Turns Ctrl-C, SIGTERM and SIGHUP into one exception, from which clean-up can be shielded.

Stopped is no subclass of Exception, so that no library's broad `except Exception` swallows it. A destructor still
could; so long-running code also calls raise_if_stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """this program was asked to end"""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_code(self) -> int:
        """What a shell shows for a program that a signal ended: 128 + its number."""
        return 128 + self.number


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back until the end of the block: for short calls to libraries whose destructors swallow exceptions.

    io's finalizers drop every exception that is raised while they close a file (iobase_finalize in CPython's
    Modules/_io/iobase.c); one in ten signals during an XML-RPC call was lost that way. Also for steps that must not be
    interrupted half way.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Interrupts:
    """In the block the first signal raises Stopped once, in the main thread; within `shield()` none does."""

    number: ClassVar[int | None] = None
    """The signal that has arrived; a process has one such object at a time."""

    def __init__(self) -> None:
        self._shielded = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        Interrupts.number = None
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # signal() accepts what it returned

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Let the block run to its end, however often somebody presses Ctrl-C."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False

    def ignore(self) -> None:
        """Ignore all signals from here on, also after the `with` block."""
        self._before.clear()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._shielded and Interrupts.number is None:
            Interrupts.number = number
            raise Stopped(number)


def raise_if_stopped() -> None:
    """Raise Stopped when a signal has arrived and its exception was lost."""
    if Interrupts.number is not None:
        raise Stopped(Interrupts.number)
