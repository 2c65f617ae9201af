"""Ctrl-C, SIGTERM and a closed terminal, as one exception that clean-up is shielded from."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
    Modules/_io/iobase.c); one in ten signals during an XML-RPC call was lost that way.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Interrupts:
    """While entered, the first signal raises Stopped once; within `shield()` none does."""

    def __init__(self) -> None:
        self._shielded = False
        self._raised = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
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

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._shielded and not self._raised:
            self._raised = True
            raise Stopped(number)
