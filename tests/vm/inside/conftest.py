"""Here nothing is collected outside of the virtual machine: the tests step the clock."""

from __future__ import annotations

from pathlib import Path


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The machine is known by its command line, which nobody can give to a kernel that runs (machine.py)."""
    return None if " fleet.job=" in Path("/proc/cmdline").read_text() else True
