"""What a program is asked, as one table: each request, who may ask, and at which rate. Pure.

    root       UID 0
    worker     a UID of this fleet's range; whatever groups it is in, it is nothing more
    operator   any other UID whose process is in the operators' group
    stranger   everybody else: one line of refusal

Authority is who calls, as the kernel says, never what is sent.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.wire import Request


class Caller(enum.Enum):
    """What a caller is to this fleet."""

    ROOT = "root"
    WORKER = "a worker of this fleet"
    OPERATOR = "an operator"
    STRANGER = "anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One request. The service's method that answers it has the request's name (`Request.method`)."""

    request: type[Request]
    callers: frozenset[Caller]
    rate: str | None = None
    """A rate beside that of all requests, by its name in `fleet.callers.Limits.rates`; a refusal says the name."""
    routine: bool = False
    """It is asked often and changes nothing: no line in an ordinary log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a caller may, and why: the reason of a refusal is logged and sent."""

    allowed: bool
    reason: str


class Table:
    """The requests of PROGRAM. What is in no row is refused to everybody."""

    def __init__(self, program: str, *rows: Row) -> None:
        self.program = program
        self.rows: Mapping[str, Row] = {row.request.method: row for row in rows}
        """By method."""
        self.kinds: Mapping[str, type[Request]] = {method: row.request for method, row in self.rows.items()}
        """What may be decoded (fleet.wire)."""
        self._known = frozenset[Caller]().union(*(row.callers for row in rows))

    def admits(self, caller: Caller, uid: int) -> Verdict:
        """Whether CALLER may connect: it must be allowed at least one request."""
        reason = f"{self.program} serves {_words(self._known)}, not UID {uid}"
        return Verdict(allowed=caller in self._known, reason=reason)

    def allows(self, caller: Caller, uid: int, request: Request) -> Verdict:
        """Whether CALLER may ask for REQUEST."""
        row = self.rows.get(request.method)
        callers = row.callers if row else frozenset[Caller]()
        reason = f"{request.method} is for {_words(callers)}, and this is UID {uid}"
        return Verdict(allowed=caller in callers, reason=reason)


def _words(callers: Iterable[Caller]) -> str:
    return " or ".join(sorted(caller.value for caller in callers)) or "nobody"
