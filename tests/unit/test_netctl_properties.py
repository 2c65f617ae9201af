"""What must hold of every plan, over random beginnings: no prefix opens a way out, the goal is reached.

The kernel is the one of tests/fakes.py (held to the real ones by the contract suite), a worker's ways out
are worked out by tests/paths.py; the last tests show that both would notice a plan in a wrong order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings

from fleet.backends import BACKENDS, Backend
from fleet.isolation import HOST
from fleet.model import Worker
from netctl.plan import diff
from netctl.plan.desired import desired
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.plan.things import Device, Gate, Sysctl, Verb
from tests.contract.ground import fleet_of
from tests.fakes import FakeKernel, after
from tests.paths import Attempt, Leak, Packet, Paths, World, relevant
from tests.states import Case, cases, held_of

many = settings(max_examples=150, deadline=None)
NOBODY: World = ()


def prefixes(state: State, operations: Iterable[Operation]) -> Iterator[State]:
    """STATE behind each operation in turn."""
    for operation in operations:
        state = after(state, operation)
        yield state


def opened(case: Case, operations: Iterable[Operation]) -> list[str]:
    """Ways out, through all or past one layer, that a prefix has and the beginning had not."""
    found: list[str] = []
    at_first, seen = _all_leaks(case, case.observed), relevant(case.observed)
    for state in prefixes(case.observed, operations):
        if relevant(state) != seen:
            seen = relevant(state)
            for name, leaks in _all_leaks(case, state).items():
                if name == "routes" and _alone(case):
                    continue  # the rules of an earlier life in the host go, and none are wanted there
                found += [f"{name}: {leak}" for leak in leaks - at_first[name]]
    return found


def _all_leaks(case: Case, state: State) -> dict[str, frozenset[Leak]]:
    """Of the host's namespace and of each worker's own, which a worker is not meant to leave."""
    ways = [(uid, paths) for uid in case.uids for paths in _ways(case, state, uid)]
    return {
        "all": frozenset(leak for uid, paths in ways for leak in paths.leaks(uid)),
        "routes": frozenset(leak for uid, paths in ways for leak in paths.routing_leaks(uid)),
        "table": frozenset(leak for uid, paths in ways for leak in paths.table_leaks(uid)),
    }


def _ways(case: Case, state: State, uid: int) -> tuple[Paths, ...]:
    own = Worker(uid=uid).space
    there = any(one.space == own for one in state.spaces)
    return Paths(state, case.world), *([Paths(state, space=own)] if there else [])


def _leaks(case: Case, state: State) -> frozenset[Leak]:
    return _all_leaks(case, state)["all"]


def behind(state: State, operations: Iterable[Operation]) -> State:
    """STATE behind all of them."""
    for operation in operations:
        state = after(state, operation)
    return state


def through_wrong_device(case: Case, operations: Iterable[Operation]) -> list[str]:
    """Gates that stand open before a device that neither the beginning nor the goal has them open before."""
    fine = pairs(case.observed) | pairs(case.wanted)
    return [str(pair[0]) for state in prefixes(case.observed, operations) for pair in pairs(state) - fine]


def _alone(case: Case) -> bool:
    """Every worker has a space: no rule of the host's is about it."""
    return bool(case.wanted.spaces)


def pairs(state: State) -> set[tuple[Gate, Device | None]]:
    """Each open gate with the device behind it."""
    devices = {(one.space, one.interface): one for one in state.devices}
    return {(gate, devices.get((gate.space, gate.interface))) for gate in state.gates}


@many
@given(cases())
def test_no_prefix_of_a_plan_opens_a_way_out(case: Case) -> None:
    """Behind every operation: no way through rules, routes and table, nor past either alone, that was not there."""
    operations = diff.diff(case.wanted, case.observed)
    assert opened(case, operations) == []
    assert through_wrong_device(case, operations) == []


@many
@given(cases())
def test_at_the_end_there_is_no_way_out(case: Case) -> None:
    """The whole holds whatever rules others have, and so does the table alone; routes too, but for others' rules."""
    state = behind(case.observed, diff.diff(case.wanted, case.observed))
    calm = replace(case, world=NOBODY)
    for uid in case.uids:
        assert all(paths.leaks(uid) == frozenset() for paths in _ways(case, state, uid))
        for paths in _ways(calm, state, uid):
            assert paths.table_leaks(uid) == frozenset()
            assert paths.routing_leaks(uid) == frozenset() or _alone(case)


@many
@given(cases())
def test_the_hosts_own_packets_go_where_they_went_without_a_fleet(case: Case) -> None:
    """Whatever rules others have, also among the workers': at the end nothing of the fleet's changes the way of another
    UID or of a forwarded packet."""
    state = behind(case.observed, diff.diff(case.wanted, case.observed))
    assert _elsewhere(state, case.world) == _elsewhere(State(), case.world)


def _elsewhere(state: State, world: World) -> list[Packet | None]:
    """The packets of UIDs that are no worker's, below, within and above the range of workers."""
    paths = Paths(replace(state, filters=frozenset()), world)
    return [paths.routed(Attempt(uid, family=family)) for uid in (None, 0, 1000, 4000, 65534) for family in (4, 6)]


@many
@given(cases())
def test_a_plan_reaches_its_goal_and_applied_twice_is_a_no_op(case: Case) -> None:
    """The kernel refuses no step of it; looked at again there is nothing to do."""
    kernel = FakeKernel(backend=_backend(case), state=case.observed, foreign_rules=case.world)

    async def twice() -> tuple[Operation, ...]:
        await kernel.apply(diff.diff(case.wanted, case.observed))
        return diff.diff(case.wanted, (await kernel.observe()).state)

    assert asyncio.run(twice()) == ()
    assert kernel.foreign_rules == case.world


def _backend(case: Case) -> Backend:
    (kind,) = {link.kind for link in case.wanted.links}
    return next(one for one in BACKENDS.values() if one.link_kind == kind)


@many
@given(cases())
def test_a_plan_touches_only_what_was_ours_or_is_wanted(case: Case) -> None:
    """Whatever is deleted was observed as ours, whatever is made is wanted; others' sysctls are only ever raised.

    With a space for each worker the host's sysctls are not touched at all, and no link goes up in the host.
    """
    values = {(one.space, one.path): one.value for one in case.observed.sysctls}
    own = {link.interface for link in case.wanted.links} | {"all"}
    # A link is made and configured in the host, whatever it is for.
    wanted = replace(case.wanted, links=case.wanted.links | {replace(one, space=HOST) for one in case.wanted.links})
    for operation in diff.diff(case.wanted, case.observed):
        thing = operation.thing
        if _alone(case) and operation.space == HOST:
            assert not isinstance(thing, Sysctl)
            assert operation.verb != "up"
        if operation.verb in {"delete", "seal"}:
            assert any(thing in getattr(case.observed, name) for name in State.__dataclass_fields__)
        elif isinstance(thing, Sysctl) and thing.path[3] not in own:
            assert thing.value > values[thing.space, thing.path]
        else:
            assert any(thing in getattr(wanted, name) for name in State.__dataclass_fields__)


@many
@given(cases())
def test_cleanup_opens_nothing_before_its_very_last_step(case: Case) -> None:
    """With the table whole it goes last, whatever else goes before; then nothing of ours is left."""
    there = {HOST, *(one.space for one in case.observed.spaces)}
    filters = frozenset(replace(one, intact=True) for one in case.wanted.filters if one.space in there)
    held = {(one.space, uid) for one in filters for uid in one.uids}
    gates = frozenset(one for one in case.observed.gates if (one.space, one.uid) in held)
    observed = replace(case.observed, filters=filters, gates=gates)
    operations = diff.diff(State(), observed)
    at_first = _leaks(case, observed)
    for state in prefixes(observed, operations[:-1]):
        assert _leaks(case, state) <= at_first
    state = behind(observed, operations)
    assert state == State(sysctls=state.sysctls)
    assert diff.diff(State(), state) == ()


# --- the controls: a wrong order is noticed


def _lively() -> Case:
    """Two tunnels in use, one of which is to have another key."""
    fleet = fleet_of(2)
    first, second = held_of(1, open_=True), held_of(2, open_=True)
    uids = frozenset({1101, 1102})
    return Case(
        wanted=desired(fleet, {1101: first, 1102: held_of(3, open_=True)}, kind="wireguard"),
        observed=desired(fleet, {1101: first, 1102: second}, kind="wireguard"),
        world=NOBODY,
        uids=uids,
    )


def test_a_plan_that_opens_before_it_swaps_is_caught() -> None:
    """The gate of the new address before the device of the new key: found by the check on devices."""
    case = _lively()
    right = diff.diff(case.wanted, case.observed)
    first = [one for one in right if one.verb in ("seal", "open")]
    wrong = first + [one for one in right if one not in first]
    assert through_wrong_device(case, right) == []
    assert through_wrong_device(case, wrong) != []


@pytest.mark.parametrize("what", ["filters", "rules"])
def test_a_plan_that_deletes_before_it_adds_is_caught(what: str) -> None:
    """Table or rules taken away and made again: found behind the deletion."""
    case = _lively()
    things = sorted(getattr(case.observed, what), key=repr)
    verbs: tuple[Verb, ...] = ("delete", "add")
    wrong = [Operation(verb=verb, thing=thing) for verb in verbs for thing in things]
    assert opened(case, wrong) != []


def test_a_cleanup_backwards_is_caught() -> None:
    """The table first, then the rest: found at its first step."""
    case = replace(_lively(), wanted=State())
    backwards = tuple(reversed(diff.diff(State(), case.observed)))
    assert opened(case, backwards[:1]) != []


def test_a_lookup_without_what_is_behind_it_is_caught() -> None:
    """A lost `unreachable` and a lost prohibit let a worker whose device is gone into the main table."""
    case = _lively()
    bare = replace(
        case.observed,
        rules=frozenset(one for one in case.observed.rules if one.table is not None),
        routes=frozenset(),
    )
    assert Paths(bare).routing_leaks(1101)
    assert not Paths(bare).leaks(1101)
    assert Paths(replace(bare, filters=frozenset(), gates=frozenset())).leaks(1101)
