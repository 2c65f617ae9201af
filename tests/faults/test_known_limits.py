"""What is not held, and shown here: netctl is dead, and somebody flushes what only netctl would bring back.

This is also the positive control of the whole tier: the very same processes, under the very same UIDs, are seen at
the ISP as soon as nothing holds them.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults import causes
from tests.faults.scene import Scene
from tests.layers import flush_both
from tests.waiting import until

LIMITS = {
    "netctl dead and everything flushed at once": (flush_both, ".80.4444: UDP, length 9"),
    # Without the table a socket bound to the uplink reaches the uplink's own network past every rule.
    "netctl dead and the nftables ruleset flushed": (causes.ruleset_flushed, "198.51.100.53.53: "),
}
CLOSED_SECONDS = 10


@pytest.mark.parametrize("limit", LIMITS, ids=lambda name: name.replace(" ", "_"))
def test_a_dead_netctl_and_a_flush_leak_until_it_is_back(scene: Scene, limit: str) -> None:
    """netctl is killed and its layers are flushed in the same moment: open until the next netctl stands, not longer."""
    cause, mark = LIMITS[limit]
    os.kill(scene.pid(), signal.SIGKILL)
    cause(scene)
    scene.calm()
    seen = [line for line in scene.capture.lines() if mark in line]
    assert seen, "the control sees nothing: every zero of this tier means nothing"
    first, last = (float(line.split()[0]) for line in (seen[0], seen[-1]))
    print(f"known limit: {limit}: open for {last - first:.2f} s")
    assert last - first < CLOSED_SECONDS
    until("it is closed", lambda: not scene.capture.lines(), 10)
