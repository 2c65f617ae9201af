"""A program inside the lab that says what it sees, line by line; each line is waited for with a deadline."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.net import Lab
from tests.waiting import until


class Ear:
    """What a process has said."""

    def __init__(self, said: Path) -> None:
        self._said = said
        self._read = 0

    def lines(self, count: int) -> list[str]:
        """The next COUNT lines."""
        wanted = self._read + count
        until(f"{count} more lines", lambda: len(self._all()) >= wanted, 10, self._all)
        found = self._all()[self._read : wanted]
        self._read = wanted
        return found

    def before(self, mark: str) -> list[str]:
        """The lines up to one that has MARK, and without that."""
        found: list[str] = []
        while mark not in (line := self.lines(1)[0]):
            found.append(line)
        return found

    def says_more(self) -> bool:
        """Whether there is a line that nobody has read."""
        return len(self._all()) > self._read

    def heard(self, count: int) -> Counter[str]:
        """The next COUNT lines, however they are ordered."""
        return Counter(self.lines(count))

    def _all(self) -> list[str]:
        return self._said.read_text().splitlines()


@contextlib.contextmanager
def speaking(lab: Lab, where: str, argv: Sequence[str], first: str) -> Iterator[Ear]:
    """A program in the namespace WHERE that has said FIRST; ended behind the block."""
    with tempfile.NamedTemporaryFile() as said, lab.popen(where, argv, stdout=said, stderr=said, cwd="/") as made:
        try:
            ear = Ear(Path(said.name))
            ear.before(first)
            yield ear
        finally:
            made.kill()


@contextlib.contextmanager
def capturing(lab: Lab, expression: str) -> Iterator[Ear]:
    """tcpdump of what matches EXPRESSION at the ISP's end of the host's uplink, which every packet of it passes."""
    # -U and -l: nothing is held back in a buffer.
    argv = ["tcpdump", "-n", "-l", "-U", "--immediate-mode", "-i", "access", expression]
    with speaking(lab, "isp", argv, "listening on") as made:
        yield made
