"""The state that the kernel has or should have: a set of things of each kind. The plan compares two States."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.plan.shortcut import Shortcut
from netctl.plan.things import Address, Device, Filter, Gate, Link, Route, Rule, Space, Sysctl, Thing, marks_of


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The whole state, or one worker's part of it."""

    spaces: frozenset[Space] = frozenset()
    links: frozenset[Link] = frozenset()
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    shortcuts: frozenset[Shortcut] = frozenset()
    sysctls: frozenset[Sysctl] = frozenset()
    devices: frozenset[Device] = frozenset()
    gates: frozenset[Gate] = frozenset()
    filters: frozenset[Filter] = frozenset()
    """At most one in each namespace; a set like the others, so that the plan needs no special case."""

    def __or__(self, other: State) -> State:
        return State(**{name: getattr(self, name) | getattr(other, name) for name in _PARTS})

    def __sub__(self, other: State) -> State:
        return State(**{name: getattr(self, name) - getattr(other, name) for name in _PARTS})

    def things(self) -> Iterator[Thing]:
        """All things in it."""
        return chain.from_iterable(getattr(self, name) for name in _PARTS)

    def keep(self, wanted: Callable[[Thing], bool]) -> State:
        """The State with only the things that are WANTED."""
        return State(**{name: frozenset(filter(wanted, getattr(self, name))) for name in _PARTS})

    @staticmethod
    def of(things: Iterable[Thing]) -> State:
        """The State of THINGS."""
        parts: dict[str, Any] = {}
        for one in things:
            parts.setdefault(one.part, set()).add(one)
        return State(**{name: frozenset(found) for name, found in parts.items()})

    def at(self, space: str) -> State:
        """The things in SPACE."""
        return self.keep(lambda one: one.space == space)

    def of_worker(self, worker: Worker) -> State:
        """WORKER's things: those with its marks in the host, and all in its own namespace."""
        found = _by_mark(self)
        return State.of(one for mark in marks_of(worker) for one in found.get(mark, ()))

    def of_former_workers(self, fleet: Fleet) -> State:
        """The things that belong to no worker of FLEET: those of workers that it had earlier."""
        marks = frozenset[Hashable]().union(*map(marks_of, fleet.members))
        return self.keep(
            lambda one: (
                marks.isdisjoint(one.marks) and (one.space != HOST or not isinstance(one, Filter | Shortcut | Sysctl))
            )
        )

    def uses_spare(self, worker: Worker) -> bool:
        """Whether WORKER's table leads to the link with the spare name: an earlier netctl gave up the usual one."""
        spare = worker.spare_interface
        used = any(one.interface == spare for one in self.routes)
        return used and any(one.interface == spare for one in self.links)

    def without(self, interfaces: frozenset[str]) -> State:
        """The State as if the links INTERFACES did not exist; but with their gates, which still have to be closed."""
        return replace(self.keep(lambda one: one.on not in interfaces), gates=self.gates)


@lru_cache(maxsize=1)  # one State is divided for one worker after the other
def _by_mark(state: State) -> Mapping[Hashable, Sequence[Thing]]:
    found: dict[Hashable, list[Thing]] = {}
    for one in state.things():
        for mark in one.marks:
            found.setdefault(mark, []).append(one)
    return found


_PARTS = tuple(part.name for part in fields(State))
