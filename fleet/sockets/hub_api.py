"""What the hub is asked, and what it answers: one table of its requests, and the values that cross its socket.

The table is the one place where a request is entered; hub.service has a method of its name. A worker is known by its
UID: no request names one. A result does not cross: it lies in the worker's spool, and the hub reads it there.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, JsonValue

from fleet.sockets.callers import Caller, Row, Table
from fleet.sockets.wire import Message, Request

MOST_FORGOTTEN = 200
"""Files in one request."""


class Take(Request):
    """A job for the calling worker, as soon as there is one. Its connection holds it: who hangs up has lost it."""

    method: ClassVar[str] = "take"
    seconds: float = Field(ge=0, le=300)
    """How long to wait for one; 0: only what can begin at once."""
    forgotten: tuple[str, ...] = Field(default=(), max_length=MOST_FORGOTTEN)
    """The files that it was told it may take away, and has."""


class Finish(Request):
    """The result of a job of the calling worker lies in its spool (fleet.result.of_job)."""

    method: ClassVar[str] = "finish"
    job: int = Field(gt=0)
    fence: int = Field(gt=0)


class Ring(Request):
    """Something has changed in the queue: look now."""

    method: ClassVar[str] = "ring"


class Work(Message):
    """A job to do. JOB and FENCE together are the run."""

    job: int
    fence: int
    claim: str
    """What the result has to say, so that none of another queue's job of this number is taken for it."""
    task: str
    arguments: dict[str, JsonValue]
    exit: str = ""
    """The server or the region that it has to come out of; "": any."""


class Taken(Message):
    """The answer to take."""

    work: Work | None
    """None: there is nothing to do yet."""
    forget: tuple[str, ...] = ()
    """Pictures in the caller's spool that are no longer wanted."""


TAKE_SECONDS = 300.0
"""The longest wait in one request."""
_MARGIN_SECONDS = 30.0
_WORKER = frozenset({Caller.WORKER})

TABLE = Table(
    "hub",
    Row(request=Take, callers=_WORKER, seconds=TAKE_SECONDS + _MARGIN_SECONDS, routine=True),
    Row(request=Finish, callers=_WORKER, routine=True),
    # Of those who may change the queue itself: root, and the hub's own commands.
    Row(request=Ring, callers=frozenset({Caller.ROOT, Caller.OPERATOR}), routine=True),
)
