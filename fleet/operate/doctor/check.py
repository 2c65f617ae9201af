"""A check of the doctor, and its finding: a verdict, what was seen, the command that repairs it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fleet.operate.doctor.machine import Case


class Verdict(str, enum.Enum):
    """How bad a finding is: `error` means the fleet will not work, or not safely."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report, one object of its JSON; made with ok(), warning(), error()."""

    name: str = ""
    verdict: Verdict
    seen: str
    why: str = ""
    command: str = ""
    """The command that repairs it, or words where one command is not enough."""
    fixable: bool = False
    """`fleet doctor --fix` does it."""


def ok(seen: str) -> Finding:
    """Nothing to do."""
    return Finding(verdict=Verdict.OK, seen=seen)


def warning(seen: str, command: str, *, fixable: bool = False) -> Finding:
    """It works, but could cause harm."""
    return Finding(verdict=Verdict.WARNING, seen=seen, command=command, fixable=fixable)


def error(seen: str, command: str) -> Finding:
    """It will not work, or not safely."""
    return Finding(verdict=Verdict.ERROR, seen=seen, command=command)


def some(words: Sequence[str], most: int = 4, *, between: str = ", ") -> str:
    """The first MOST of WORDS, and how many more there are."""
    return between.join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


Look = Callable[[Case], Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A function that checks one thing, and why that matters."""

    name: str
    why: str
    look: Look

    def on(self, case: Case) -> Finding:
        """The finding on CASE; raises nothing for unusual files and answers."""
        try:
            found = self.look(case)
        except (OSError, ValueError, LookupError) as reason:
            # A check that fails on an unusual file or answer must not stop the others.
            words = f"this check could not run: {type(reason).__name__}: {reason}"
            found = error(words, "report this, with --json's output")
        return replace(found, name=self.name, why=self.why)


def check(name: str, why: str) -> Callable[[Look], Check]:
    """A decorator that makes a function the check NAME; WHY says why it matters."""
    return lambda look: Check(name=name, why=why, look=look)
