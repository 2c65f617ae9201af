"""A program under a wall clock that a file steps: `python -I clock.py FILE LAUNCH ARGUMENT...`.

The machine's own clock is never touched. FILE holds the seconds by which this program's is off.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

FILE = Path(sys.argv[1])
_right, _right_ns = time.time, time.time_ns


def _off() -> int:
    return int(FILE.read_text() or 0)


time.time = lambda: _right() + _off()
time.time_ns = lambda: _right_ns() + _off() * 1_000_000_000
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
