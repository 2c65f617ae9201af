"""Every probe in every state, in both isolations: zero packets, each with a control that is seen."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fleets import FREE
from tests.leak import table
from tests.leak.probes import BULK, LATE, LINGER, LOOPBACK, ROWS, probes, row_of
from tests.leak.scene import Scene
from tests.leak.states import STATES, Held
from tests.waiting import until

LEAST_TRIES = 50
"""Of each row in each state."""
CONTROL_ROUNDS = 3
WAYS = 3
"""How each target is tried: plain, bound to the uplink, from the host's address."""


@pytest.mark.parametrize("state", STATES, ids=lambda name: name.replace(" ", "_"))
def test_nothing_leaves(scene: Scene, isolation: str, state: str) -> None:
    """Nothing that a worker tries in this state, or that the kernel sends for it, is seen outside."""
    with STATES[state](scene) as held:
        scene.quiet()
        column = table.Column(tries=_try(scene, held), leaks=_seen(scene), control=Counter())
        table.COLUMNS[isolation, state] = column
        assert +column.leaks == Counter()
        assert bool(scene.ended) == (state != "no tunnel")
        column.control.update(_control(scene))


def _try(scene: Scene, held: Held) -> Counter[str]:
    """Break connections, and try every probe as often as possible."""
    scene.ended = 0
    if held.late:
        held.late()
    tries = scene.probe(scene.worker(), held.tick, seconds=held.seconds)
    tries.update(dict.fromkeys(LATE.values(), scene.ended))
    assert min(tries[row] for row in (*ROWS, LOOPBACK)) >= LEAST_TRIES
    return tries


def _seen(scene: Scene) -> Counter[str]:
    """What the observers have seen, by row; a packet of no row appears as tcpdump shows it."""
    seen = Counter(row_of(line)[0] or line for line in scene.capture.lines())
    seen[LOOPBACK] = len(scene.heard())
    return seen


def _control(scene: Scene) -> Counter[str]:
    """Assert that the same attempts of a UID of no worker are all seen, target by target.

    The state's repeated action is not done here: while the host's own rules are flushed, no process can send.
    """
    ending, lines = scene.late(FREE), list[str]()
    ending()
    tries = scene.probe(FREE, lambda: None, rounds=CONTROL_ROUNDS, seconds=20)
    until("late packets of every kind are seen", lambda: _late_are_seen(lines, scene), 10, lambda: lines[-20:])
    seen = Counter(row_of(line) for line in lines)
    for row, ways in probes().items():
        for host, count in Counter(way["host"] for way in ways).items():
            # More than all but one of the ways can account for: each was seen.
            assert seen[row, host] > (WAYS - 1) * CONTROL_ROUNDS, (row, host, seen[row, host])
            assert count == WAYS
    by_row = Counter(row for row, _ in seen.elements())
    by_row[LOOPBACK] = scene.heard_at_least(tries[LOOPBACK])
    return Counter({row: by_row[row] for row in table.ALL_ROWS})


def _late_are_seen(lines: list[str], scene: Scene) -> bool:
    """Whether LINES have resets, acknowledgements of late data, and errors about unused ports."""
    lines += scene.capture.lines()
    marks = (f".{BULK}: Flags [R", f".{LINGER}: Flags [.]", "unreachable")
    late = {row: [line for line in lines if row_of(line)[0] == row] for row in LATE.values()}
    return all(any(mark in line for line in found) for found in late.values() for mark in marks)
