"""What the hub's page costs beside a long history: `bin/bench page`, without root.

The first paint's document, lists of what is rare, and the memory of the hub, with a few runs and then with a million.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil

from bench.queue import past
from bench.slots import machine, spread
from tests.hub_pages import ask, shown

LISTS = ("/results", "/results?outcome=limited", "/results?site=s7", "/results?site=s7&outcome=limited", "/jobs")
LOOKS = 20


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="bench page", description=__doc__)
    parser.add_argument("--history", type=int, default=1_000_000, help="finished runs")
    history = parser.parse_args().history
    print(machine())
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir="/var/tmp") as folder, shown(Path(folder)) as scene:
        hub = next(one for one in psutil.Process().children() if "serve" in one.cmdline())
        for rows in (0, history):
            past(scene.database, rows)
            print(f"{rows:,} runs")
            for path in ("/", *LISTS):
                print(f"  {path}, ms: {spread([looked(path) for _ in range(LOOKS)])}")
            print(f"  the hub has {hub.memory_info().rss >> 20} MB", flush=True)


def looked(path: str) -> float:
    """Milliseconds until all of the document is here."""
    began = time.perf_counter()
    status, _, text = ask(path)
    assert status == 200 and text, path
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
