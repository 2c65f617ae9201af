"""What a check of the doctor returns."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pydantic import JsonValue


class Verdict(str, enum.Enum):
    """How bad it is: `error` means the fleet will not work, or not safely."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one check saw; made with ok(), warning(), error()."""

    verdict: Verdict
    text: str
    command: str = ""
    """The command that repairs it, or words where one command is not enough."""
    fixable: bool = False
    """`fleet doctor --fix` does it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's report."""

    name: str
    verdict: Verdict
    seen: str
    why: str
    command: str
    fixable: bool

    def as_json(self) -> dict[str, JsonValue]:
        """For `--json`."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "seen": self.seen,
            "why": self.why,
            "command": self.command,
            "fixable": self.fixable,
        }


def ok(text: str) -> Seen:
    """Nothing to do."""
    return Seen(verdict=Verdict.OK, text=text)


def warning(text: str, command: str, *, fixable: bool = False) -> Seen:
    """It works, but could cause harm."""
    return Seen(verdict=Verdict.WARNING, text=text, command=command, fixable=fixable)


def error(text: str, command: str, *, fixable: bool = False) -> Seen:
    """It will not work, or not safely."""
    return Seen(verdict=Verdict.ERROR, text=text, command=command, fixable=fixable)
