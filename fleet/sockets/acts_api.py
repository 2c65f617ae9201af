"""What the hub's page asks of root: a worker is stopped, or started. This table is all that there is."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from fleet.sockets.callers import Caller, Rate, Row, Table
from fleet.sockets.wire import Request

RATE = Rate(per_second=0.2, burst=20)
"""Enough for a person at a page, and too slow to keep a fleet from its work by starting it again and again."""
ACTS = "acts"


class _OfWorker(Request):
    worker: str = Field(max_length=16)


class Stop(_OfWorker):
    """End the worker of that name; nothing starts it again but who starts it by name, or `fleet up`."""

    method: ClassVar[str] = "stop"


class Start(_OfWorker):
    """Start the worker of that name."""

    method: ClassVar[str] = "start"


_HUB = frozenset({Caller.HUB})

TABLE = Table("acts", Row(request=Stop, callers=_HUB, rate=ACTS), Row(request=Start, callers=_HUB, rate=ACTS))
