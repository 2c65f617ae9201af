"""`fleet verify` asks programs that it does not trust: real ones, which act like a hijacked worker."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

import pytest

from fleet.errors import Unanswered
from fleet.operate.ask import MOST_BYTES, ask

ENVIRONMENT = {"PATH": os.defpath}
SECONDS = 20.0


def asked(text: str, order: str = "order\n", seconds: float = SECONDS) -> str:
    """The answer of a Python program TEXT."""
    return ask([sys.executable, "-I", "-c", text], order, ENVIRONMENT, seconds=seconds, what="it")


def test_an_order_and_its_answer() -> None:
    """The standard output is returned, however long the order is; standard error is not part of it."""
    text = "import sys; print('log', file=sys.stderr); print(len(sys.stdin.readline()))"
    assert asked(text, "x" * 500_000 + "\n").strip() == "500001"


def test_an_order_that_nobody_reads() -> None:
    """A program that closes its input, or ends, before it has read a long order blocks nothing."""
    order = "x" * 500_000
    assert asked("import os; os.close(0); print('early')", order).strip() == "early"
    with pytest.raises(Unanswered, match="it ended with code 0"):
        asked("", order)


def test_an_answer_without_end_fills_no_memory() -> None:
    """After MOST_BYTES the program is ended: the caller's memory grows by a few times MOST_BYTES at most."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unanswered, match=f"more than {MOST_BYTES} bytes"):
        asked("import os\nwhile True: os.write(1, b'x' * 65536)")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * MOST_BYTES >> 10


def test_words_without_end_on_standard_error() -> None:
    """The end of it is kept, and shown with the exit code."""
    text = (
        "import os; [os.write(2, b'x' * 99 + b'\\n') for _ in range(99_999)]; os.write(2, b'last words'); os._exit(3)"
    )
    with pytest.raises(Unanswered, match=r"it ended with code 3: .*last words$") as caught:
        asked(text)
    assert len(str(caught.value)) < 1000


def test_one_that_hangs_is_ended() -> None:
    """After its time it is killed, whatever signals it ignores."""
    begin = time.monotonic()
    with pytest.raises(Unanswered, match=r"did not answer within 0\.5 s"):
        asked("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()", seconds=0.5)
    assert time.monotonic() - begin < SECONDS / 2


def test_whoever_keeps_its_pipes_open_is_not_waited_for() -> None:
    """A grandchild that holds standard output does not delay the answer."""
    begin = time.monotonic()
    text = "import os, signal\nif pid := os.fork(): print(pid, flush=True)\nelse: signal.pause()"
    pid = int(asked(text))
    seconds = time.monotonic() - begin
    os.kill(pid, signal.SIGKILL)  # raises where it has ended, and so held nothing
    assert seconds < SECONDS / 2


def test_it_has_no_terminal() -> None:
    """It is in its own session, so there is no terminal of root into which it could type."""
    text = "import os; print(os.getsid(0) == os.getpid())"
    assert asked(text).strip() == "True"
