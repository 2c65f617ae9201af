"""The fault table, what others do to the host: nothing goes past a tunnel, and what was taken away is brought back."""

from __future__ import annotations

import pytest

from tests.faults import causes, judge
from tests.faults.judge import Fault
from tests.faults.scene import Scene
from tests.fleets import FREE
from tests.layers import flush_both, flush_rules
from tests.waiting import until

FAULTS = (
    Fault(name="netctl killed", cause=causes.netctl_killed, hits="nobody"),
    Fault(name="netctl frozen", cause=causes.netctl_frozen, hits="nobody", lasts_seconds=4),
    Fault(name="rules flushed", cause=flush_rules, hits="all"),
    Fault(name="routing tables flushed", cause=causes.tables_flushed, hits="all"),
    Fault(name="nftables ruleset flushed", cause=causes.ruleset_flushed, hits="all"),
    Fault(name="rules and ruleset flushed at once", cause=flush_both, hits="all"),
    Fault(
        name="both flushed while netctl is frozen", cause=causes.netctl_frozen_and_flushed, hits="all", lasts_seconds=3
    ),
    Fault(name="netctl killed and rules flushed", cause=causes.netctl_killed_and_rules_flushed, hits="all"),
    Fault(name="networkd-like sweep of rules and routes", cause=causes.swept, hits="all"),
    Fault(name="device deleted", cause=causes.device_deleted, hits="one"),
    Fault(name="device down", cause=causes.device_down, hits="one"),
    Fault(name="wireguard-go killed", cause=causes.wireguard_killed, hits="one"),
    Fault(name="uplink down and up", cause=causes.uplink_down, hits="all", lasts_seconds=3),
)
WAYS = {
    "UDP": ("203.0.113.80.4444: UDP, length 4", 3),
    "UDP, connected": ("203.0.113.80.4444: UDP, length 9", 1),
    "DNS": ("198.51.100.53.53: 4660+ A?", 3),
    "ping": ("> 198.51.100.53: ICMP echo request", 3),
    "TCP": ("203.0.113.80.4443: Flags [S]", 3),
    "UDP over IPv6": ("2001:db8:2::80.4444: UDP", 2),
    "ping over IPv6": ("> 2001:db8:2::80: ICMP6, echo request", 2),
    "TCP over IPv6": ("2001:db8:2::80.4443: Flags [S]", 2),
}
"""How tcpdump shows each way that stream.py tries, and how many variants there are: plain, bound to the uplink,
bound to the host's own address."""


def test_every_way_is_seen_of_another_uid(scene: Scene) -> None:
    """Positive control: the same tries under a UID that is no worker's are all seen, so that a zero means something."""
    free = scene.stream(FREE, tunnel=False)
    seen: list[str] = []

    def counts() -> dict[str, float]:
        seen.extend(scene.capture.lines())
        return {way: sum(mark in line for line in seen) / variants for way, (mark, variants) in WAYS.items()}

    until("every way is seen", lambda: min(counts().values()) > 50, 10, counts)
    free.process.kill()
    free.process.wait(10)
    rounds = counts()
    assert min(rounds.values()) > 0.9 * max(rounds.values()), f"a variant is not seen: {rounds}"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_fault_opens_nothing_and_passes(scene: Scene, fault: Fault) -> None:
    """Zero packets past the tunnels, no foreign exit, the neighbour works on, and the slot is back in time."""
    judge.check(scene, fault)
