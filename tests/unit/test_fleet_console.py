"""What the programs print on a terminal, on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

ENDPOINT = "198.51.100.11:51820"
PROGRAM = f"""
from fleet import console
rows = [("w1101", "{ENDPOINT}", ""), ("w1102", "{ENDPOINT}", "no handshake within fifteen seconds")]
console.print_table("two tunnels", ("worker", "endpoint", "trouble"), rows)
"""


def shown(columns: int) -> list[str]:
    """The lines of a table on a terminal of so many COLUMNS."""
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen, os.fdopen(end) as output:
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "COLUMNS": str(columns)}
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=output, env=environment, check=True, timeout=60)
        return screen.read(65_536).decode().splitlines()


@pytest.mark.parametrize("columns", [46, 60])
def test_a_narrow_terminal_gets_blocks(columns: int) -> None:
    """Each row is a block in which every value is whole, on one line; an empty one is left out."""
    lines = shown(columns)
    assert lines[:2] == ["two tunnels", "w1101"] and max(map(len, lines)) <= columns
    assert lines.count(f"  endpoint: {ENDPOINT}") == 2 and lines[-1] == "  trouble: no handshake within fifteen seconds"
    assert sum("trouble" in line for line in lines) == 1


def test_a_wide_terminal_gets_a_table() -> None:
    """A row stands on one line there."""
    assert sum(ENDPOINT in line and "│" in line for line in shown(100)) == 2
