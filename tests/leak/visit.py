"""Runs Chrome, which waits for its worker's tunnel, on a page that reports to the lab's shop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from lab.net import Lab
from lab.topology import HOSTILE_PORTS
from tests.waiting import until

_WAIT = 'import os, sys; print("ready", flush=True); sys.stdin.readline(); os.execv(sys.argv[1], sys.argv[1:])'
WAITING = ("/usr/bin/python3", "-I", "-c", _WAIT)
"""Put before a program, it says `ready` and becomes that program when it reads a line."""
_PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}


def reports(lab: Lab) -> Counter[str]:
    """The requests of pages to the shop so far, counted by address and path."""
    lines = map(json.loads, lab.places.access_log.read_text().splitlines())
    return Counter(f"{line['address']} {line['path']}" for line in lines)


def visit(
    lab: Lab, argv: Sequence[str], seen: Sequence[str], then: Callable[[], object] = lambda: None
) -> Counter[str]:
    """Run Chrome until its page reports, from one of the addresses SEEN, that it is done; then end it.

    ARGV begins with WAITING; Chrome starts after THEN. Returns the page's reports, counted by path.
    """
    before = reports(lab)

    def said() -> Counter[str]:
        now = (line.split() for line in (reports(lab) - before).elements())
        return Counter(path for address, path in now if address in seen)

    with lab.popen("host", argv, **_PIPES, cwd="/") as chrome:
        try:
            assert chrome.stdin
            assert chrome.stdout
            assert chrome.stdout.readline() == "ready\n"
            then()
            chrome.stdin.write("\n")
            chrome.stdin.flush()
            until("the page has tried everything", lambda: said()["/hostile/done"], 40, lambda: reports(lab) - before)
        finally:
            os.killpg(chrome.pid, signal.SIGKILL)
            chrome.wait(10)
            until("all of Chrome has ended", lambda: not _alive(chrome.pid), 20, lambda: _alive(chrome.pid))
    return said()


def _alive(leader: int) -> list[psutil.Process]:
    """The processes of the group LEADER, without zombies."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def forget(lab: Lab) -> None:
    """End the shop's open connections: their ends, a minute later, would look like late packets of a later test."""
    wanted = " or ".join(f"sport = :{port}" for port in (80, *HOSTILE_PORTS))

    def none() -> bool:
        lab.run("web", ["ss", "-K", "-tn", f"( {wanted} )"], check=True)
        return not lab.run("web", ["ss", "-Htn", f"( {wanted} )"], check=True).stdout

    until("the shop has no connection", none, 20)
