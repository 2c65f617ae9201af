"""What the kernel should hold, or holds: a set of things of each kind. The plan compares two States."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

from netctl.plan.things import Address, Device, Filter, Gate, Link, Route, Rule, Space, Sysctl, Thing


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of it, or one worker's slice."""

    spaces: frozenset[Space] = frozenset()
    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    devices: frozenset[Device] = frozenset()
    gates: frozenset[Gate] = frozenset()
    filters: frozenset[Filter] = frozenset()
    """None or one in each namespace; a set like the others, so that the plan needs no special case."""

    def __or__(self, other: State) -> State:
        return State(**{name: getattr(self, name) | getattr(other, name) for name in _PARTS})

    def __sub__(self, other: State) -> State:
        return State(**{name: getattr(self, name) - getattr(other, name) for name in _PARTS})

    def things(self) -> Iterator[Thing]:
        """All of it, one by one."""
        return chain.from_iterable(getattr(self, name) for name in _PARTS)

    def keep(self, wanted: Callable[[Thing], bool]) -> State:
        """What of it is WANTED."""
        return State(**{name: frozenset(filter(wanted, getattr(self, name))) for name in _PARTS})

    @staticmethod
    def of(things: Iterable[Thing]) -> State:
        """The State of THINGS."""
        parts: dict[str, Any] = {}
        for one in things:
            parts.setdefault(one.part, set()).add(one)
        return State(**{name: frozenset(found) for name, found in parts.items()})


_PARTS = tuple(part.name for part in fields(State))
