"""The hub's requests and replies: one table of its requests, and the values that cross its socket.

Every request is entered only in the table; hub.service has a method of its name. A worker is identified by its UID, so
no request names one. Results are not sent: the hub reads them from the worker's spool.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Message, Request

MOST_FORGOTTEN = 200
"""The most files in one request."""


class Take(Request):
    """Wait for a job for the calling worker. The job belongs to the connection: a worker that hangs up loses it."""

    method: ClassVar[str] = "take"
    seconds: float = Field(ge=0, le=300)
    """How long to wait for one; 0: only a job that can begin at once."""
    forgotten: tuple[str, ...] = Field(default=(), max_length=MOST_FORGOTTEN)
    """The files of Taken.forget that the worker has deleted."""


class Finish(Request):
    """The result of a job of the calling worker is in its spool (fleet.result.of_job)."""

    method: ClassVar[str] = "finish"
    job: int = Field(gt=0)
    fence: int = Field(gt=0)


class Ring(Request):
    """The queue has changed: read it now."""

    method: ClassVar[str] = "ring"


class Work(Message):
    """A job to do. JOB and FENCE together identify the run."""

    job: int
    fence: int
    claim: str
    """The result must contain it, so that a job with the same number in another queue is not mistaken for this one."""
    task: str
    arguments: dict[str, JsonValue]
    exit: str = ""
    """The server or the region of the exit; "": any."""


class Taken(Message):
    """The reply to take."""

    work: Work | None
    """None: no job yet."""
    forget: tuple[str, ...] = ()
    """Pictures in the caller's spool that the worker may delete."""


TAKE_SECONDS = 300.0
"""The longest wait in one request."""
_MARGIN_SECONDS = 30.0
_WORKER = frozenset({Caller.WORKER})

TABLE = Table(
    "hub",
    Row(request=Take, callers=_WORKER, seconds=TAKE_SECONDS + _MARGIN_SECONDS, routine=True),
    Row(request=Finish, callers=_WORKER, routine=True),
    # For callers that may change the queue itself: root, and the hub's own commands.
    Row(request=Ring, callers=frozenset({Caller.ROOT, Caller.OPERATOR}), routine=True),
)
