"""Asks an untrusted program: it gets an order on its standard input, and its answer is bounded in size and time.

The worker under test may have been taken over. It cannot fill root's memory, cannot block longer than the deadline, and
has no terminal that it could type into (TIOCSTI, ioctl_tty(2)).
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence

from fleet.errors import Unanswered, in_a_line
from fleet.machine.processes import Handle
from fleet.programs import told_error

MOST_BYTES = 1 << 20
"""The longest answer; a usual one has some 20 kB."""
KEPT_BYTES = 1 << 16
"""How much of the end of standard error is kept."""
_PIECE_BYTES = 1 << 16


def ask(
    command: Sequence[str],
    order: str,
    environment: Mapping[str, str],
    *,
    seconds: float,
    what: str,
    most_bytes: int = MOST_BYTES,
) -> str:
    """The answer of COMMAND to ORDER; raises Unanswered. COMMAND has ended then; the caller ends what it started.

    WHAT names it in messages.
    """
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        try:
            talk = _Talk(child, order.encode(), most_bytes)
            talk.go_on(time.monotonic() + seconds)
        except _TooMuch:
            raise Unanswered(f"{what} answered with more than {most_bytes} bytes") from None
        except TimeoutError:
            raise Unanswered(f"{what} did not answer within {seconds:g} s") from None
        finally:
            child.kill()
    answer = talk.answer.decode(errors="replace")
    if child.returncode != 0 or not answer.strip():
        lines = bytes(talk.said).decode(errors="replace").strip().split("\n")
        words = " ".join(in_a_line(told_error("\n".join(lines[-5:]), "it said nothing")).splitlines())
        raise Unanswered(f"{what} ended with code {child.returncode}: {words}")
    return answer


class _TooMuch(Exception):
    """the answer is too long"""


class _Talk:
    """Serves the three pipes of CHILD at once until it has ended, even if another process still holds them open."""

    def __init__(self, child: subprocess.Popen[bytes], order: bytes, most_bytes: int) -> None:
        assert child.stdin and child.stdout and child.stderr
        self.answer, self.said = bytearray(), bytearray()
        self._child, self._order, self._most_bytes = child, memoryview(order), most_bytes
        self._in, self._out, self._err = child.stdin.fileno(), child.stdout.fileno(), child.stderr.fileno()

    def go_on(self, deadline: float) -> None:
        """Run until CHILD has ended; raises TimeoutError at the monotonic DEADLINE, or _TooMuch."""
        assert self._child.stdin
        with Handle(self._child.pid) as ended, selectors.DefaultSelector() as ready:
            for descriptor in (self._in, self._out, self._err):
                os.set_blocking(descriptor, False)
            ready.register(self._in, selectors.EVENT_WRITE)
            for source in (self._out, self._err, ended):
                ready.register(source, selectors.EVENT_READ)
            while True:
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError
                found = {key.fd for key, _ in ready.select(left)}
                if self._in in found and not self._write():
                    ready.unregister(self._in)
                    self._child.stdin.close()
                for descriptor in found & {self._out, self._err}:
                    if not self._read(descriptor):
                        ready.unregister(descriptor)
                if ended.fileno() in found and not found & {self._out, self._err}:
                    self._child.wait()
                    return

    def _write(self) -> bool:
        """Whether there is more to write."""
        try:
            self._order = self._order[os.write(self._in, self._order) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self._order)

    def _read(self, descriptor: int) -> bool:
        """Whether there may be more to read."""
        try:
            piece = os.read(descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return True
        if descriptor == self._err:
            self.said = (self.said + piece)[-KEPT_BYTES:]
        elif len(self.answer) + len(piece) > self._most_bytes:
            raise _TooMuch
        else:
            self.answer += piece
        return bool(piece)
