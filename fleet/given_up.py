"""The file of programs that do not run: those that supervisord gave up, with their next start, and stopped ones.

fleet.operate.rearm writes it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fleet.sockets.wire import Message

_MOST_BYTES = 1 << 20


class GivenUp(Message):
    """One program that is FATAL."""

    name: str
    again_at: float
    """Seconds since 1970."""
    times: int
    """How often in a row it has been given up."""


class All(Message):
    """All of them at one moment."""

    programs: tuple[GivenUp, ...] = ()
    stopped: tuple[str, ...] = ()
    """Programs that an operator has stopped; they stay stopped until they are started."""


def read(path: Path) -> All:
    """The content of PATH; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return All.model_validate_json(file.read(_MOST_BYTES))
    except (OSError, ValidationError):
        return All()
