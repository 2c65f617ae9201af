"""Starts one worker again and again, as root inside a lab's host: `python -m bench.starts SPEC UID PROGRAM...`.

PROGRAM and SPEC are what supervisord would run. Each line on standard input causes one start, for which it prints
one JSON object: the milliseconds from the launcher's exec to each moment of MOMENTS, and the processor time that the
process itself had used up to the first of them. The worker is killed after that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from launcher import account

MOMENTS = ("first line", "tunnel", "browser")
"""The worker's first line of log; its tunnel is connected, handshake included; its browser begins to load."""

PROCESSOR = "first line, processor time"
"""A busy machine does not distort this: launcher and worker are one process, without children up to there."""


def processor(pid: int) -> float:
    """Milliseconds that PID's threads have run (Documentation/scheduler/sched-stats.rst)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e6


def moment(line: dict[str, Any]) -> str | None:
    """Which of MOMENTS a LINE of the worker's log reports."""
    if line["event"] == "stage.begun":
        return "browser" if line["stage"] == "load" else None
    return {"worker.started": "first line", "tunnel.ready": "tunnel"}.get(line["event"])


def start(argv: list[str], uid: int) -> dict[str, float]:
    """One start; raises SystemExit with the worker's output if it ends before its last moment."""
    found: dict[str, float] = {}
    said: list[str] = []
    began = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        for text in child.stderr:
            passed = (time.perf_counter() - began) * 1000
            said.append(text)
            if text.startswith("{") and (name := moment(json.loads(text))):
                found.setdefault(name, round(passed, 1))
                found.setdefault(PROCESSOR, round(processor(child.pid), 1))
            if MOMENTS[-1] in found:
                break
        child.kill()
        account.sweep(uid)  # its children too, so that the next start has nothing to end
    if MOMENTS[-1] not in found:
        sys.exit("".join(said[-5:]))
    return found


def main() -> None:
    """One start per line."""
    spec, uid, *program = sys.argv[1:]
    for _ in sys.stdin:
        print(json.dumps(start([*program, spec], int(uid))), flush=True)


if __name__ == "__main__":
    main()
