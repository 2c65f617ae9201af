"""What is not held, and shown here: the streams' tries are seen at the ISP as soon as nothing holds them.

This is the positive control of the whole tier: the very same processes, under the very same UIDs.
"""

from __future__ import annotations

import os
import signal
import time

from tests.faults import causes
from tests.faults.scene import Scene
from tests.waiting import until


def test_netctl_dead_and_everything_flushed_at_once_leaks_until_it_is_back(scene: Scene) -> None:
    """Only both together open a way: netctl is killed, and rules and ruleset are flushed, in the same moment.

    It is closed again as soon as the next netctl starts; the window is printed for docs/security.md.
    """
    os.kill(scene.netctl_pid(), signal.SIGKILL)
    with causes.both_flushed(scene):
        flushed = time.time()
    scene.calm()
    seen = [float(line.split()[0]) for line in scene.capture.lines()]
    assert seen, "the control sees nothing: every zero of this tier means nothing"
    print(f"known limit: netctl dead and everything flushed at once: open for {max(seen) - min(seen):.2f} s")
    until("it is closed", lambda: not scene.capture.lines(), 10)
    assert max(seen) - flushed < 10
