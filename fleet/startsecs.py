"""supervisord reads an exit code only of a program that has lived for its `startsecs`: a final end waits that long.

A program that ends earlier has crashed at its start, whatever its code: supervisord starts it again, with growing
pauses (Subprocess.finish in supervisor 4.3). That is right for a crash, so `startsecs` is not 0; but it would start
a program again that is done, or whose settings are wrong. Standard library only: the launcher waits as well.
"""

from __future__ import annotations

import os
import select
import time

from fleet import processes

NETCTL_SECONDS = 2
WORKER_SECONDS = 1
_MARGIN_SECONDS = 0.1
"""supervisord's clock begins before the fork, and the kernel counts a process's start in ticks of 10 ms."""


def wait_out(seconds: float) -> None:
    """Return once this process is older than SECONDS. A signal whose handler raises ends the wait."""
    started = int(processes.stat(os.getpid())[19]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    select.select([], [], [], max(0.0, seconds + _MARGIN_SECONDS - age))
