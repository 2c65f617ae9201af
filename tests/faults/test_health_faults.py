"""The fault table, what fails in a tunnel: it is noticed, given up in time, and replaced; nobody else waits."""

from __future__ import annotations

import pytest

from tests.faults import causes, judge
from tests.faults.judge import BACK_SECONDS, GONE_SECONDS, Fault
from tests.faults.scene import Scene

FAULTS = (
    Fault(
        name="wireguard-go frozen",
        cause=causes.wireguard_frozen,
        hits="one",
        stays=True,
        within_seconds=GONE_SECONDS + BACK_SECONDS,
    ),
    Fault(
        name="netctl killed beside a frozen wireguard-go",
        cause=causes.wireguard_frozen_and_netctl_killed,
        hits="one",
        stays=True,
        within_seconds=GONE_SECONDS + BACK_SECONDS,
    ),
    Fault(
        name="server silent",
        cause=causes.server_silent,
        hits="one",
        stays=True,
        within_seconds=GONE_SECONDS + BACK_SECONDS,
    ),
    Fault(name="server silent for 6 s and back", cause=causes.server_silent, hits="one", lasts_seconds=6),
    Fault(name="server gone and back", cause=causes.server_restarted, hits="one", lasts_seconds=1),
    Fault(
        name="all servers unreachable for 20 s and back", cause=causes.servers_unreachable, hits="all", lasts_seconds=20
    ),
    Fault(
        name="receive side stalled",
        cause=causes.receive_stalled,
        hits="one",
        stays=True,
        within_seconds=2 * GONE_SECONDS + BACK_SECONDS,
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_broken_tunnel_is_replaced(scene: Scene, fault: Fault) -> None:
    """Zero packets past the tunnels, no foreign exit, the neighbour works on, and the slot is back in time."""
    judge.check(scene, fault)
