"""The order of `fleet try` to a worker, and the answer: one loop, of which nothing is stored."""

from __future__ import annotations

from pydantic import Base64Bytes

from fleet.model import TaskSettings
from fleet.result import Result
from fleet.sockets.wire import Message

RUN = "try"
"""The run name of its one loop."""


class TrialOrder(Message):
    """Do one loop with this task."""

    task: TaskSettings
    exit: str | None = None
    """The server of the exit; None: any."""


class Trial(Message):
    """The result, and its picture."""

    result: Result
    picture: Base64Bytes | None = None
