"""Parts of a State: one worker's, one namespace's, what former workers left, what is to be left alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.plan.state import State
from netctl.plan.things import Filter, Sysctl, Thing, marks_of


def at(state: State, space: str) -> State:
    """The part of STATE that lies in SPACE."""
    return state.keep(lambda one: one.space == space)


def slice_of(state: State, worker: Worker) -> State:
    """The part of STATE that is WORKER's: by its marks in the host, and all of its own space."""
    found = _by_mark(state)
    return State.of(one for mark in marks_of(worker) for one in found.get(mark, ()))


@lru_cache(maxsize=1)  # a look is sliced for one worker after the other
def _by_mark(state: State) -> Mapping[Hashable, Sequence[Thing]]:
    found: dict[Hashable, list[Thing]] = {}
    for one in state.things():
        for mark in one.marks:
            found.setdefault(mark, []).append(one)
    return found


def of_former_workers(state: State, fleet: Fleet) -> State:
    """The part of STATE that is no worker's of FLEET, which had more workers earlier, or others."""
    marks = frozenset[Hashable]().union(*map(marks_of, fleet.members))
    return state.keep(
        lambda one: marks.isdisjoint(one.marks) and (one.space != HOST or not isinstance(one, Filter | Sysctl))
    )


def uses_spare(state: State, worker: Worker) -> bool:
    """Whether WORKER's table leads to the link of the spare name: an earlier netctl had to give the usual one up."""
    spare = worker.spare_interface
    used = any(one.interface == spare for one in state.routes)
    return used and any(one.interface == spare for one in state.links)


def without(state: State, interfaces: frozenset[str]) -> State:
    """STATE as if the links INTERFACES were not there; but for gates, which have to be closed all the same."""
    return replace(state.keep(lambda one: one.on not in interfaces), gates=state.gates)
