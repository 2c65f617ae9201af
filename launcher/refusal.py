"""Why a launch cannot go on: exit code and one message."""

from __future__ import annotations

CONFIGURATION, TRY_LATER, NOT_ALLOWED = 78, 75, 77
"""As in fleet.errors.ExitCode, which this file does not import (it would bring pydantic to root)."""


class Refused(Exception):
    """The launch cannot go on; carries the exit code and one clear message."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)
