"""Parts of a State: one worker's, one namespace's, what is nobody's, what is to be left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import TypeVar

from fleet.isolation import HOST
from fleet.model import Fleet, Worker
from netctl.plan.state import Placed, State

T = TypeVar("T", bound=Placed)
_PARTS = tuple(part.name for part in fields(State))


def at(state: State, space: str) -> State:
    """The part of STATE that lies in SPACE."""
    return State(**{name: frozenset(one for one in getattr(state, name) if one.space == space) for name in _PARTS})


def slice_of(state: State, worker: Worker) -> State:
    """The part of STATE that is WORKER's: by its marks in the host, and all of its own space."""
    own, names, priorities = worker.space, worker.interfaces, (worker.table, worker.prohibit_priority)

    def mine(things: Iterable[T], marked: Callable[[T], bool]) -> frozenset[T]:
        return frozenset(one for one in things if one.space == own or (one.space == HOST and marked(one)))

    return State(
        spaces=mine(state.spaces, lambda _: False),
        links=mine(state.links, lambda one: one.interface in names or one.alias == worker.alias),
        addresses=mine(state.addresses, lambda one: one.address in worker.placeholders or one.interface in names),
        routes=mine(state.routes, lambda one: one.table == worker.table),
        rules=mine(state.rules, lambda one: one.priority in priorities),
        sysctls=mine(state.sysctls, lambda one: one.path[3] in names),
        devices=mine(state.devices, lambda one: one.interface in names),
        gates=mine(state.gates, lambda one: one.uid == worker.uid),
        # The host's table is everybody's.
        filters=mine(state.filters, lambda _: False),
    )


def of_nobody(state: State, fleet: Fleet) -> State:
    """The part of STATE inside our marks that is no worker's of FLEET: it had more workers, or others."""
    whole = replace(
        state,
        filters=frozenset(one for one in state.filters if one.space != HOST),
        sysctls=frozenset(one for one in state.sysctls if one.space != HOST),
    )
    for worker in fleet.members:
        whole = whole - slice_of(state, worker)
    return whole


def uses_spare(state: State, worker: Worker) -> bool:
    """Whether WORKER's table leads to the link of the spare name: an earlier netctl had to give the usual one up."""
    spare = worker.spare_interface
    used = any(one.interface == spare for one in state.routes)
    return used and any(one.interface == spare for one in state.links)


def without(state: State, interfaces: frozenset[str]) -> State:
    """STATE as if the links INTERFACES were not there: quarantined ones are nobody's to look at."""
    return replace(
        state,
        links=frozenset(one for one in state.links if one.interface not in interfaces),
        addresses=frozenset(one for one in state.addresses if one.interface not in interfaces),
        routes=frozenset(one for one in state.routes if one.interface not in interfaces),
        sysctls=frozenset(one for one in state.sysctls if one.path[3] not in interfaces),
        devices=frozenset(one for one in state.devices if one.interface not in interfaces),
    )
