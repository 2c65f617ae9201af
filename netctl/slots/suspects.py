"""Keys that could not be used, within one request: is it the key's fault? The next key decides.

Whatever a key raises while it is looked up, resolved, set up or let through, the worker gets another one, of another
server while there is one. Where that one works, the first is put aside, as the key of a silent server is, with its
reason. Where it fails alike, it is not the keys (a kernel that refuses everything, a device that does not start): then
no key is put aside, and the worker hears the error instead of using up the pool.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet.errors import ConfigurationError, FleetError, KeyStoreFailed, NoKeyFree, SpaceGone, TunnelError, in_a_line
from fleet.sockets.netctl_api import PoolStatus
from netctl.pool.contract import Lease

NO_KEYS_FAULT = (KeyStoreFailed, NoKeyFree, SpaceGone)
"""Errors that no other key mends: not even the next one is tried."""
MOST = 5
"""So many keys may fail within one request, each in another way."""


class Suspects:
    """The keys of one request that failed, in their order."""

    def __init__(self) -> None:
        self._found: list[tuple[Lease, Exception]] = []

    def add(self, lease: Lease, error: Exception) -> bool:
        """LEASE's key has raised ERROR; raises that, by a name of ours, where the key before it has raised the like.

        Whether it is the very key that failed before: there is no other one to tell by.
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
        """Where no key is taken from while there is another."""
        return (lease.key.server for lease, _ in self._found)

    def guilty(self) -> Iterator[tuple[Lease, str]]:
        """Each key with its reason, once it is clear that it is the keys."""
        return ((lease, in_words(error)) for lease, error in self._found)


def named(error: Exception) -> FleetError:
    """ERROR as one that crosses the socket: a worker asks for another tunnel then."""
    return error if isinstance(error, FleetError) else TunnelError(f"no tunnel with this key: {in_words(error)}")


def none_there(server: str | None) -> FleetError:
    """The pool has no key; none of SERVER where that is wanted, and then to wait would hold up a worker for nothing."""
    if server is None:
        return NoKeyFree("the key pool is empty", hint="netctl keys import PATH..., or netctl keys revive KEY")
    hint = "netctl keys list names servers and regions; import keys of it, or ask for another exit"
    return ConfigurationError(f"no key is of {server!r}, as a server or as a region", hint=hint)


def none_free(numbers: PoolStatus, most_on_server: int, server: str | None) -> NoKeyFree:
    """Why no key became free in time."""
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
    """ERROR in words without the words of strangers: those may quote what they were given, a key for example."""
    if isinstance(error, FleetError):
        return in_a_line(error)
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "netctl" in code.co_filename:
            place = f" in {code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
