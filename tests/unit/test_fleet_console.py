"""What the programs print on a terminal, tested on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

ENDPOINT = "198.51.100.11:51820"
PROGRAM = f"""
from fleet.terminal import console
rows = [("w1101", "{ENDPOINT}", ""), ("w1102", "{ENDPOINT}", "no handshake within fifteen seconds")]
console.print_table("two tunnels", ("worker", "endpoint", "trouble"), rows)
"""


def shown(columns: int) -> list[str]:
    """The lines of a table on a terminal with COLUMNS columns."""
    terminal, end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as screen, os.fdopen(end) as output:
        environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "COLUMNS": str(columns)}
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=output, env=environment, check=True, timeout=60)
        return screen.read(65_536).decode().splitlines()


@pytest.mark.parametrize("columns", [46, 60])
def test_a_narrow_terminal_gets_blocks(columns: int) -> None:
    """Each row is a block, with every value complete on one line; empty values are left out."""
    lines = shown(columns)
    assert lines[:2] == ["two tunnels", "w1101"] and max(map(len, lines)) <= columns
    assert lines.count(f"  endpoint: {ENDPOINT}") == 2 and lines[-1] == "  trouble: no handshake within fifteen seconds"
    assert sum("trouble" in line for line in lines) == 1


def test_a_wide_terminal_gets_a_table() -> None:
    """Each row is on one line there."""
    assert sum(ENDPOINT in line and "│" in line for line in shown(100)) == 2


LISTED = """[
  {
    "key_id": 1,
    "server": "kr.example",
    "region": "KR",
    "origin": "kr-1.conf, kr-2.conf"
  }
]"""


@pytest.mark.parametrize(
    ("function", "begun", "words"), [("keys", "k", "kr-1.conf kr-2.conf kr.example"), ("servers", "k", "kr.example")]
)
def test_completion_knows_keys_and_servers(function: str, begun: str, words: str) -> None:
    """It offers the names that `netctl keys list` prints."""
    words_of = [sys.executable, str(CHECKOUT / "launch.py"), "netctl", "--completion", "bash"]
    script = subprocess.run(words_of, capture_output=True, text=True, check=True, timeout=60).stdout
    script += f"\nnetctl() {{ cat <<'X'\n{LISTED}\nX\n}}\n_fleet_{function} {begun} | sort"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert " ".join(done.stdout.split()) == words, done.stderr


@pytest.mark.parametrize(
    "name", ["$(touch PWNED)", "`touch PWNED`", "$(touch${IFS}PWNED)", "${x:=$(touch PWNED)}", "*"]
)
def test_completion_runs_no_word_of_a_stranger(name: str, tmp_path: Path) -> None:
    """Whatever a key file or a server is called, root's Tab only offers plain names, and runs nothing."""
    words_of = [sys.executable, str(CHECKOUT / "launch.py"), "netctl", "--completion", "bash"]
    script = subprocess.run(words_of, capture_output=True, text=True, check=True, timeout=60).stdout
    listed = LISTED.replace("kr-2.conf", name).replace("kr.example", name)
    script += f"\nnetctl() {{ cat <<'X'\n{listed}\nX\n}}\n_fleet_keys k; _fleet_servers k"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60)
    assert (done.stdout.split(), list(tmp_path.iterdir())) == (["kr-1.conf"], []), done.stderr


def test_the_manual_has_every_verb() -> None:
    """It has every verb with its options; no text is mistaken for a formatter request."""
    words = [sys.executable, str(CHECKOUT / "launch.py"), "fleet", "--manual"]
    page = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert ".SS fleet job add" in page and "\\-\\-keys\\-and\\-results" in page
    assert {line.split()[0] for line in page.splitlines() if line[:1] == "."} <= {".TH", ".SH", ".SS", ".nf", ".fi"}


FULL = """
from fleet.machine.files import write_durably
from fleet.terminal import console
from pathlib import Path
def run(_): write_durably(Path("{place}"), b"settings" * 4096)
made = console.Parser(prog="fleet", example="fleet")
made.set_defaults(run=run, debug=False)
console.main(made, [])
"""


def test_a_full_disk_is_told_with_the_file_and_tried_later(root: None, tmp_path: Path) -> None:
    """A program that writes to a full disk exits with 75 and names the file; control: with room it works."""
    place = tmp_path / "small"
    place.mkdir()
    command = [sys.executable, "-c", FULL.format(place=place / "fleet.json")]
    small = ["unshare", "--mount", "sh", "-euc", 'mount -t tmpfs -o size=8k tmpfs "$0"; exec "$@"', str(place)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    done = subprocess.run([*small, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 75 and f"No space left on device: '{place}/fleet.json'" in done.stderr, done
