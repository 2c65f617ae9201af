"""What `fleet try` asks of a worker, and what comes back: one loop, of which nothing is stored."""

from __future__ import annotations

from pydantic import Base64Bytes

from fleet.model import TaskSettings
from fleet.result import Result
from fleet.sockets.wire import Message

RUN = "try"
"""The run of its one loop."""


class TrialOrder(Message):
    """One loop with this task."""

    task: TaskSettings
    exit: str | None = None
    """Through this server."""


class Trial(Message):
    """What it came to."""

    result: Result
    picture: Base64Bytes | None = None
