"""Every error of the fleet, the name it has on the wire, and its exit code.

    FleetError                      70  something inside went wrong
    ├── RunFailed                    1  the run ended, and not every loop is good
    ├── UsageError                  64  a wrong command line
    ├── MissingProgram              69  a required program is missing
    ├── TryLater                    75
    │   ├── NoKeyFree                   every key is leased or cooling down
    │   ├── KeyStoreFailed              the key store cannot be read or written now
    │   ├── DatabaseFailed              the same for the hub's database
    │   ├── Unavailable                 a program of the fleet does not answer
    │   ├── NoWay                       the host has no route to the VPN server
    │   └── RateLimited                 too many requests from one caller
    ├── NotAllowed                  77
    ├── ConfigurationError          78  every mistake at once
    │   └── ForeignObject               another program's object inside the fleet's marks
    ├── ProtocolError                   a frame that is not a request of this protocol
    ├── Unanswered                      a program that was asked gave no answer
    ├── NotInTime                       an expected state was not reached in time
    ├── KernelRefused                   the kernel refused a change
    ├── HostFenced                      this host was taken for dead, and others have its jobs
    ├── SpaceGone                       a worker's network namespace is not there
    ├── TunnelError                     a tunnel that cannot be used
    │   ├── HandshakeTimeout            the server did not answer
    │   ├── ServerNotFound              the server's name has no address
    │   ├── TunnelLost                  the lease ended under the worker
    │   ├── WrongExit                   the world sees another address than the leased one
    │   └── Unproved                    no service reported the address that the world sees
    ├── BrowserDied                     the browser does not answer
    │   └── BrowserStartFailed          it did not start
    ├── PageFailed                      a page that did not load
    ├── Answered                     1  a site that answered with something else than the page
    ├── ElementMissing               1  a page without what the task looks for
    └── TaskFailed                   1  a task whose answer cannot be stored

A class's docstring is its default message. An error crosses a socket or a pipe as its class name, message, hint and
data, none of which holds a secret. Every class is in this file, so that every receiver knows every name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pydantic import JsonValue  # slow to import, and needed only for types here


class ExitCode(enum.IntEnum):
    """The one table of exit codes; supervisord's `exitcodes` come from it."""

    DONE = 0
    FAILED = 1
    WOULD_CHANGE = 2
    USAGE = 64
    MISSING_PROGRAM = 69
    INTERNAL = 70
    TRY_LATER = 75
    NOT_ALLOWED = 77
    CONFIGURATION = 78

    @classmethod
    def final(cls) -> tuple[ExitCode, ...]:
        """Codes after which starting the same program again cannot help."""
        return (cls.DONE, cls.USAGE, cls.MISSING_PROGRAM, cls.NOT_ALLOWED, cls.CONFIGURATION)


class FleetError(Exception):
    """something went wrong inside the fleet"""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, message: str = "", *, hint: str = "", data: Mapping[str, JsonValue] | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.hint = hint
        self.data: dict[str, JsonValue] = dict(data or {})
        super().__init__(self.message)

    def parameters(self) -> dict[str, JsonValue]:
        """What crosses a socket together with the error's name."""
        return {"message": self.message, "hint": self.hint, "data": self.data}


class RunFailed(FleetError):
    """the run ended and not every loop succeeded"""

    exit_code = ExitCode.FAILED


class UsageError(FleetError):
    """the command line is wrong"""

    exit_code = ExitCode.USAGE


class MissingProgram(FleetError):
    """a required program is missing"""

    exit_code = ExitCode.MISSING_PROGRAM


class TryLater(FleetError):
    """not now; the same request may succeed later"""

    exit_code = ExitCode.TRY_LATER


class NoKeyFree(TryLater):
    """no WireGuard key is free: every key of the pool is leased or cooling down"""


class NoWay(TryLater):
    """this host has no route to the VPN server"""


class KeyStoreFailed(TryLater):
    """the key store cannot be read or written"""


class DatabaseFailed(TryLater):
    """the database cannot be read or written"""


class Unavailable(TryLater):
    """the program at the other end of the socket does not answer"""


class RateLimited(TryLater):
    """too many requests or connections of one caller"""


class NotAllowed(FleetError):
    """this caller may not do that"""

    exit_code = ExitCode.NOT_ALLOWED


class ConfigurationError(FleetError):
    """the configuration cannot be used"""

    exit_code = ExitCode.CONFIGURATION


class ForeignObject(ConfigurationError):
    """an object that is not ours lies inside the fleet's marks"""


class ProtocolError(FleetError):
    """a frame that is not a request of this protocol"""


class Unanswered(FleetError):
    """the program that was asked gave no answer"""


class NotInTime(FleetError):
    """an expected state was not reached in time"""


class KernelRefused(FleetError):
    """the kernel refused a change"""


class HostFenced(FleetError):
    """this host was taken for dead, and its jobs were given to others"""


class SpaceGone(FleetError):
    """a worker's network namespace is not there"""


class TunnelError(FleetError):
    """the tunnel cannot be used"""


class HandshakeTimeout(TunnelError):
    """the VPN server did not answer the handshake in time"""


class ServerNotFound(TunnelError):
    """the VPN server's name has no address"""


class TunnelLost(TunnelError):
    """the lease ended while the worker was using it"""


class WrongExit(TunnelError):
    """the world sees another address than the leased exit"""


class Unproved(TunnelError):
    """no egress service reported the worker's address"""


class BrowserDied(FleetError):
    """the browser or its driver is gone or does not answer"""


class BrowserStartFailed(BrowserDied):
    """the browser did not start"""


class PageFailed(FleetError):
    """the page did not load"""

    def __init__(self, url: str, code: str, more: str = "") -> None:
        super().__init__(f"{url}: {code}{f' ({more})' if more else ''}", data={"url": url, "code": code})

    @property
    def code(self) -> str:
        """Chrome's name of the error without `net::`, for example ERR_NETWORK_CHANGED, or TIMEOUT."""
        return str(self.data.get("code", ""))


class Answered(FleetError):
    """the site answered, and not with the page that was asked for"""

    exit_code = ExitCode.FAILED

    def __init__(self, outcome: str, why: str, *, url: str = "", retry_after_seconds: float | None = None) -> None:
        super().__init__(
            f"{url}: {why}" if url else why,
            data={"outcome": outcome, "url": url, "retry_after_seconds": retry_after_seconds},
        )

    @property
    def outcome(self) -> Literal["refused", "limited", "absent"]:
        """See fleet.result."""
        found = self.data.get("outcome")
        return "limited" if found == "limited" else "absent" if found == "absent" else "refused"

    @property
    def retry_after_seconds(self) -> float | None:
        """How long the site asks to be left alone; None: it does not say."""
        seconds = self.data.get("retry_after_seconds")
        return float(seconds) if isinstance(seconds, int | float) else None


class ElementMissing(FleetError):
    """the page does not have what the task looks for"""

    exit_code = ExitCode.FAILED


class TaskFailed(FleetError):
    """the answer of the task cannot be stored"""

    exit_code = ExitCode.FAILED


def _named(kind: type[FleetError]) -> dict[str, type[FleetError]]:
    below = (pair for child in kind.__subclasses__() for pair in _named(child).items())
    return dict([(kind.__name__, kind), *below])


TREE: Mapping[str, type[FleetError]] = _named(FleetError)
"""Every class by its name; built here, so that it holds only this file's classes."""


def from_wire(name: str, parameters: Mapping[str, JsonValue]) -> FleetError:
    """The error that NAME and PARAMETERS stand for; an unknown name becomes a plain FleetError."""
    kind = TREE.get(name, FleetError)
    message, hint, data = (parameters.get(key) for key in ("message", "hint", "data"))
    made = kind.__new__(kind)
    # Not with the class's own constructor, which may build its message from other arguments.
    FleetError.__init__(
        made,
        message if isinstance(message, str) else name,
        hint=hint if isinstance(hint, str) else "",
        data=data if isinstance(data, dict) else None,
    )
    return made


def causes(error: BaseException) -> Iterator[BaseException]:
    """ERROR itself, its cause, the cause of that."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def describe(error: BaseException) -> list[str]:
    """The chain of causes, one per line, the outermost first, then what to do about it."""
    chain = list(causes(error))
    hints = [f"what to do: {one.hint}" for one in chain if isinstance(one, FleetError) and one.hint]
    return [str(one) or type(one).__name__ for one in chain] + hints


def in_a_line(error: BaseException) -> str:
    """The same as one line, for a log or a report."""
    return "; ".join(describe(error))
