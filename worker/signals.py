"""SIGTERM and SIGINT: the loop is abandoned where it is, through its `with` blocks, except while handing in.

Stopped is no Exception, so that no library's broad `except Exception` swallows it. A destructor could;
therefore each stage asks again.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """the worker was told to end"""


class _State:
    stopping = False


def install() -> None:
    """From here on the first signal raises Stopped in the main thread; later ones do nothing."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _State.stopping:
        _State.stopping = True
        raise Stopped()


def ignore() -> None:
    """From here on no signal interrupts the end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_if_stopping() -> None:
    """Raise Stopped when a signal came and its Stopped was lost."""
    if _State.stopping:
        raise Stopped()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals wait until the block is done: half a result is not handed in."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
