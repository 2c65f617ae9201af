"""What a Debian package of the fleet does as root when it goes: its scripts, in a folder that stands for the host."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "bin/package"
PASSWD = """root:x:0:0:root:/root:/bin/bash
netctl:x:990:990:fleet's network helper:/nonexistent:/usr/sbin/nologin
fleet-hub:x:991:991:fleet's hub:/nonexistent:/usr/sbin/nologin
w1101:x:1101:990:fleet worker:/nonexistent:/usr/sbin/nologin
kim:x:1000:1000:fleet worker:/home/kim:/bin/bash
w1102:x:1102:1102:Wi Kim,,,:/home/w1102:/bin/bash
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Its files; `fleet` is not set up, and accounts that are deleted are written down."""
    made = {"usr/bin/fleet": "exit 69", "bin/userdel": 'echo "$1" >>"${0%/*}/../deleted"', "bin/getent": "exit 2"}
    for name, text in made.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    return tmp_path


def code_of(host: Path, script: str, word: str) -> int:
    """How SCRIPT ends with dpkg's WORD."""
    text = re.sub(r"(?<![\w.])/(usr|etc|var|run)/", r"$HOST/\1/", runpy.run_path(str(PACKAGE))["SCRIPTS"][script])
    assert set(re.findall(r"(?<![\w.])/\w+/", text)) <= {"/dev/"}, "of this machine's own files none is touched"
    environment = {"PATH": f"{host}/bin:{os.defpath}", "HOST": str(host)}
    return subprocess.run(["sh", "-euc", text, script, word], env=environment, check=False).returncode


def test_a_set_up_that_failed_can_be_removed(host: Path) -> None:
    """`fleet` does not start then. Where a fleet was made ready it has to end first (control)."""
    assert code_of(host, "prerm", "remove") == 0
    (host / "run/fleet").mkdir(parents=True)
    assert code_of(host, "prerm", "remove") == 69 and code_of(host, "prerm", "upgrade") == 0


def test_purge_deletes_the_fleets_accounts_alone(host: Path) -> None:
    """By name and words: neither a person who is called like a worker, nor one who says so of himself."""
    assert code_of(host, "postrm", "purge") == 0
    assert (host / "deleted").read_text().split() == ["netctl", "fleet-hub", "w1101"]
