"""What the kernel should hold, or holds: a set of things of each kind. The plan compares two States."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.plan.things import Address, Device, Filter, Gate, Link, Route, Rule, Space, Sysctl, Thing, marks_of


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

    def at(self, space: str) -> State:
        """What of it lies in SPACE."""
        return self.keep(lambda one: one.space == space)

    def of_worker(self, worker: Worker) -> State:
        """What of it is WORKER's: by its marks in the host, and all of its own space."""
        found = _by_mark(self)
        return State.of(one for mark in marks_of(worker) for one in found.get(mark, ()))

    def of_former_workers(self, fleet: Fleet) -> State:
        """What of it is no worker's of FLEET, which had more workers earlier, or others."""
        marks = frozenset[Hashable]().union(*map(marks_of, fleet.members))
        return self.keep(
            lambda one: marks.isdisjoint(one.marks) and (one.space != HOST or not isinstance(one, Filter | Sysctl))
        )

    def uses_spare(self, worker: Worker) -> bool:
        """Whether WORKER's table leads to the link of the spare name: an earlier netctl gave the usual one up."""
        spare = worker.spare_interface
        used = any(one.interface == spare for one in self.routes)
        return used and any(one.interface == spare for one in self.links)

    def without(self, interfaces: frozenset[str]) -> State:
        """It as if the links INTERFACES were not there; but for gates, which have to be closed all the same."""
        return replace(self.keep(lambda one: one.on not in interfaces), gates=self.gates)


@lru_cache(maxsize=1)  # a look is sliced for one worker after the other
def _by_mark(state: State) -> Mapping[Hashable, Sequence[Thing]]:
    found: dict[Hashable, list[Thing]] = {}
    for one in state.things():
        for mark in one.marks:
            found.setdefault(mark, []).append(one)
    return found


_PARTS = tuple(part.name for part in fields(State))
