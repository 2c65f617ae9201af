"""A program inside the lab that says what it sees, line by line; each line is waited for with a deadline."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.net import Lab
from tests.waiting import until

ROOM = ("--snapshot-length=256", "--buffer-size=16384")
"""In immediate mode each packet has a slot of the snapshot length, 256 KiB unless told: the usual buffer of 2 MiB holds
eight packets then (pcap-linux.c), and a burst of more is lost unseen. The buffer's size is in KiB."""


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

    def rest(self) -> list[str]:
        """The lines that nobody has read."""
        found = self._all()[self._read :]
        self._read += len(found)
        return found

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


def tcpdump(expression: str, *further: str) -> list[str]:
    """tcpdump, with FURTHER options, of what matches EXPRESSION at the ISP's end of the host's uplink.

    Every packet of the host passes there. Run it inside the ISP.
    """
    # -U and -l: nothing is held back in a buffer.
    return ["tcpdump", "-n", "-l", "-U", "--immediate-mode", "-i", "access", *ROOM, *further, expression]


@contextlib.contextmanager
def capturing(lab: Lab, expression: str) -> Iterator[Ear]:
    """What tcpdump() sees."""
    with speaking(lab, "isp", tcpdump(expression), "listening on") as made:
        yield made
