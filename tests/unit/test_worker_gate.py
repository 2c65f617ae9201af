"""The start gate."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fleet.errors import Unavailable
from worker.browser.gate import pass_through


def test_open_without_files(tmp_path: Path) -> None:
    """No lock files, no gate."""
    with pass_through(tmp_path, seconds=0.1):
        pass


def test_as_many_as_there_are_files(tmp_path: Path) -> None:
    """With two files two pass and a third waits in vain; a place is free again afterwards."""
    for number in range(2):
        (tmp_path / f"{number}.lock").touch()
    with pass_through(tmp_path, seconds=1), pass_through(tmp_path, seconds=1):
        third = pass_through(tmp_path, seconds=0.1)
        with pytest.raises(Unavailable, match="all 2 places"):
            third.__enter__()
    with pass_through(tmp_path, seconds=1), pass_through(tmp_path, seconds=1):
        pass


def test_place_of_a_killed_holder(tmp_path: Path) -> None:
    """A holder that was killed gives its place back."""
    lock = tmp_path / "0.lock"
    lock.touch()
    holder = subprocess.Popen(
        ["flock", "-F", str(lock), "sh", "-c", "echo held; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(Unavailable), pass_through(tmp_path, seconds=0.1):
        pass
    holder.kill()
    holder.communicate()
    with pass_through(tmp_path, seconds=2):
        pass
