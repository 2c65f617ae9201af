"""Parts of a State: one worker's, one namespace's, what former workers left, what is to be left alone."""

from __future__ import annotations

from dataclasses import replace

from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.plan.state import State
from netctl.plan.things import Filter, Sysctl, marks_of


def at(state: State, space: str) -> State:
    """The part of STATE that lies in SPACE."""
    return state.keep(lambda one: one.space == space)


def slice_of(state: State, worker: Worker) -> State:
    """The part of STATE that is WORKER's: by its marks in the host, and all of its own space."""
    own, marks = worker.space, marks_of(worker)
    return state.keep(lambda one: one.space == own or (one.space == HOST and not marks.isdisjoint(one.marks)))


def of_nobody(state: State, fleet: Fleet) -> State:
    """The part of STATE inside our marks that is no worker's of FLEET: it had more workers, or others."""
    found = state.keep(lambda one: one.space != HOST or not isinstance(one, Filter | Sysctl))
    for worker in fleet.members:
        found = found - slice_of(found, worker)
    return found


def uses_spare(state: State, worker: Worker) -> bool:
    """Whether WORKER's table leads to the link of the spare name: an earlier netctl had to give the usual one up."""
    spare = worker.spare_interface
    used = any(one.interface == spare for one in state.routes)
    return used and any(one.interface == spare for one in state.links)


def without(state: State, interfaces: frozenset[str]) -> State:
    """STATE as if the links INTERFACES were not there; but for gates, which have to be closed all the same."""
    return replace(state.keep(lambda one: one.on not in interfaces), gates=state.gates)
