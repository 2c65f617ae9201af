"""Programs that do not run: given up by supervisord, and when each is started again, or told to stay away.

fleet.operate.rearm writes them down.
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
    """How often it has been given up, in a row."""


class All(Message):
    """Those there are at a moment."""

    programs: tuple[GivenUp, ...] = ()
    stopped: tuple[str, ...] = ()
    """Who has ended because somebody said so, and stays away until somebody starts it."""


def read(path: Path) -> All:
    """Those of PATH; none where it cannot be read: what is shown does without."""
    try:
        with path.open("rb") as file:
            return All.model_validate_json(file.read(_MOST_BYTES))
    except (OSError, ValidationError):
        return All()
