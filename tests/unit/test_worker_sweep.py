"""Which processes the launcher's sweep finds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from launcher.account import is_alive_of

HIDDEN = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall({exit}, 0)
"""
EXIT = {"x86_64": 60}.get(os.uname().machine, 93)
"""exit(2) of the one thread that calls it (asm/unistd_64.h; 93 in asm-generic/unistd.h)."""


def state(pid: int) -> str:
    """R, S, Z ... as proc(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_whose_first_thread_has_ended_is_alive() -> None:
    """It looks like a zombie and is none: it would go on under the UID of the next worker."""
    with subprocess.Popen(
        [sys.executable, "-c", HIDDEN.format(exit=EXIT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline()
        while state(process.pid) != "Z":
            pass
        assert is_alive_of(process.pid, os.getuid())
        process.kill()


def test_a_zombie_is_not_alive() -> None:
    """A process that has ended and is not waited for yet needs no end."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        while state(process.pid) != "Z":
            pass
        assert not is_alive_of(process.pid, os.getuid())
