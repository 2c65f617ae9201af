"""Ctrl-C, SIGTERM and a closed terminal, as one exception that clean-up is shielded from.

Stopped is no Exception, so that no library's broad `except Exception` swallows it. A destructor could; who works for
long therefore asks again (raise_if_stopped).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """somebody asked this program to end"""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_code(self) -> int:
        """What a shell shows for a program that a signal ended: 128 + its number."""
        return 128 + self.number


@contextmanager
def deferred() -> Iterator[None]:
    """Signals wait until the block is done: for short calls into libraries whose destructors swallow exceptions.

    io's finalizers drop whatever is raised while they close a file (iobase_finalize in CPython's
    Modules/_io/iobase.c); one in ten signals during an XML-RPC call was lost that way. Also for what must be done
    whole or not at all.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Interrupts:
    """While entered, the first signal raises Stopped once in the main thread; within `shield()` none does."""

    number: ClassVar[int | None] = None
    """Of the signal that has come; a process has one such object at a time."""

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
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave, it takes

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Clean-up runs to its end, however often somebody presses Ctrl-C."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False

    def ignore(self) -> None:
        """From here on no signal interrupts the end, also behind the `with` block."""
        self._before.clear()
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._shielded and Interrupts.number is None:
            Interrupts.number = number
            raise Stopped(number)


def raise_if_stopped() -> None:
    """Raise Stopped when a signal came and its Stopped was lost."""
    if Interrupts.number is not None:
        raise Stopped(Interrupts.number)
