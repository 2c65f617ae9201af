"""What netctl does to itself at its start, tried on processes that really crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet import isolation
from fleet.errors import NotAllowed
from fleet.machine import syscalls
from netctl import privileges

CHECKOUT = Path(__file__).resolve().parents[2]
CRASH = """
import os, resource
from netctl import privileges
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
{before}
os.abort()
"""


def _dumped(folder: Path, before: str) -> bool:
    """Whether the kernel dumped the core of a process that aborts after BEFORE; core files were allowed to it."""
    command = [sys.executable, "-c", CRASH.format(before=before)]
    crash = subprocess.Popen(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    # waitpid and not wait(): only the raw status tells of the dump.
    status = os.waitpid(crash.pid, 0)[1]
    crash.returncode = -os.WTERMSIG(status)
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def test_a_crash_leaves_no_core(tmp_path: Path, root: None) -> None:
    """After keep_memory() an abort leaves no core; without it, the same process leaves one."""
    assert _dumped(tmp_path, "pass")
    assert not _dumped(tmp_path, "privileges.keep_memory()")


def test_the_limit_alone_holds(tmp_path: Path, root: None) -> None:
    """What wireguard-go is started with, a limit of one byte, is enough: no core."""
    assert not _dumped(tmp_path, "resource.setrlimit(resource.RLIMIT_CORE, (1, 1))")


def test_without_the_capability_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve` without CAP_NET_ADMIN: not allowed (77), and who starts it properly."""
    monkeypatch.setattr(os, "umask", lambda _: 0)  # the test's own stays
    monkeypatch.setattr(syscalls, "prctl", lambda *_: None)
    monkeypatch.setattr(syscalls, "capabilities", lambda: syscalls.Capabilities(1 << 1, 0, 0))
    with pytest.raises(NotAllowed, match="CAP_NET_ADMIN") as caught:
        privileges.cut(isolation.UID)
    assert "fleet up" in caught.value.hint


def test_capabilities_are_read_from_the_kernel(root: None) -> None:
    """A process with one capability sees that one."""
    program = "from fleet.machine import syscalls; print(syscalls.capabilities().effective)"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert int(done.stdout) == 1 << 12  # CAP_NET_ADMIN
