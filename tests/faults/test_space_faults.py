"""The lines of the fault table that are others where each worker has a network namespace of its own."""

from __future__ import annotations

import pytest

from tests.faults import causes, judge
from tests.faults.conftest import Stage
from tests.faults.judge import Fault
from tests.faults.scene import Scene
from tests.layers import flush_both, flush_rules

FAULTS = (
    Fault(name="netns: netctl killed", cause=causes.netctl_killed, hits="nobody"),
    Fault(name="netns: a namespace's name deleted", cause=causes.name_lost, hits="nobody", lasts_seconds=3),
    Fault(name="netns: rules flushed everywhere", cause=flush_rules, hits="all"),
    Fault(name="netns: routing tables flushed", cause=causes.tables_flushed, hits="all"),
    Fault(name="netns: nftables ruleset flushed everywhere", cause=causes.ruleset_flushed, hits="all"),
    Fault(name="netns: rules and ruleset flushed at once", cause=flush_both, hits="all"),
    Fault(
        name="netns: both flushed while netctl is frozen",
        cause=causes.netctl_frozen_and_flushed,
        hits="all",
        lasts_seconds=3,
    ),
    Fault(name="netns: device deleted", cause=causes.device_deleted, hits="one"),
    Fault(name="netns: device down", cause=causes.device_down, hits="one"),
    Fault(name="netns: wireguard-go killed", cause=causes.wireguard_killed, hits="one"),
)


@pytest.fixture
def scene(stage: Stage) -> Scene:
    """Two workers at work in namespaces of their own, everything as it should be."""
    made = stage.scene("netns")
    made.everywhere(["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])
    made.capture.lines()
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_fault_opens_nothing_and_passes(scene: Scene, fault: Fault) -> None:
    """Zero packets past the tunnels, no foreign exit, the neighbour works on, and the slot is back in time."""
    judge.check(scene, fault)
