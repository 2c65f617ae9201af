"""Keys that failed within one request: the next key shows whether the key was at fault.

After any error while a key is looked up, resolved, set up or let through, the worker gets another key, of another
server if there is one. If that one works, the first is put aside with its reason, like the key of a silent server. If
it fails in the same way, the keys are not at fault (a kernel that refuses everything, a device that does not start):
then no key is put aside, and the worker gets the error instead of using up the pool.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import ConfigurationError, FleetError, KeyStoreFailed, NoKeyFree, SpaceGone, TunnelError, in_a_line
from fleet.sockets.netctl_api import PoolStatus
from netctl.pool.contract import Lease

NO_KEYS_FAULT = (KeyStoreFailed, NoKeyFree, SpaceGone)
"""Errors that another key cannot help with: no other key is tried."""
MOST = 5
"""How many keys may fail within one request, each in another way."""


class Suspects:
    """The keys of one request that failed, in their order."""

    def __init__(self) -> None:
        self._found: list[tuple[Lease, Exception]] = []

    def add(self, lease: Lease, error: Exception) -> bool:
        """Record that LEASE's key has raised ERROR; raise it, as a FleetError, if another key has just raised its type.

        Returns whether the same key failed before: then there is no other key to compare with.
        """
        before = self._found[-1] if self._found else None
        self._found.append((lease, error))
        if before is None:
            return False
        alike = before[0].key_id != lease.key_id and type(before[1]) is type(error)
        if alike or len(self._found) > MOST:
            raise named(error)
        return before[0].key_id == lease.key_id

    @property
    def servers(self) -> Iterator[str]:
        """The servers to avoid while there are others."""
        return (lease.key.server for lease, _ in self._found)

    def guilty(self) -> Iterator[tuple[Lease, str]]:
        """Each key with its reason; for use when the keys are known to be at fault."""
        return ((lease, in_words(error)) for lease, error in self._found)


def named(error: Exception) -> FleetError:
    """ERROR as a FleetError, which can cross the socket; after it a worker asks for another tunnel."""
    return error if isinstance(error, FleetError) else TunnelError(f"no tunnel with this key: {in_words(error)}")


def none_there(server: str | None) -> FleetError:
    """The error for a pool without any key, or without one of SERVER: then waiting for one would be useless."""
    if server is None:
        return NoKeyFree("the key pool is empty", hint="netctl keys import PATH..., or netctl keys revive KEY")
    hint = "netctl keys list shows servers and regions; import keys for it, or ask for another exit"
    return ConfigurationError(f"no key is of {server!r}, as a server or as a region", hint=hint)


def none_free(numbers: PoolStatus, most_on_server: int, server: str | None) -> NoKeyFree:
    """The error for a pool in which no key became free in time, with the reason."""
    if numbers.service:
        return NoKeyFree(f"no key became free in time: {numbers.service}", data=numbers.model_dump(mode="json"))
    full = f"every server has its {most_on_server} workers (netctl.workers_per_server)"
    why = full if numbers.free and most_on_server else "each is leased or cooling down"
    keys = f"{numbers.keys} keys" if server is None else f"the keys of {server!r}"
    return NoKeyFree(
        f"none of {keys} became free in time: {why}",
        hint="import more keys, or run fewer workers",
        data=numbers.model_dump(mode="json"),
    )


def in_words(error: Exception) -> str:
    """ERROR as text. The text of a foreign exception is left out: it may quote its input, for example a key."""
    if isinstance(error, FleetError):
        return in_a_line(error)
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "netctl" in code.co_filename:
            place = f" in {code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
