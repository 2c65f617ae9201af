"""The requests of the hub's page to root: stop a worker, start a worker. There are no others."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fleet.sockets.callers import Caller, Rate, Row, Table
from fleet.sockets.wire import Request

RATE = Rate(per_second=0.2, burst=20)
"""Enough for a person at a page, but too slow to keep a fleet from working by restarting its workers."""
ACTS = "acts"


class _OfWorker(Request):
    worker: str = Field(max_length=16)


class Stop(_OfWorker):
    """Stop the worker of that name; it stays stopped until it is started by name, or by `fleet up`."""

    method: ClassVar[str] = "stop"


class Start(_OfWorker):
    """Start the worker of that name."""

    method: ClassVar[str] = "start"


_HUB = frozenset({Caller.HUB})

TABLE = Table("acts", Row(request=Stop, callers=_HUB, rate=ACTS), Row(request=Start, callers=_HUB, rate=ACTS))
