"""The start gate."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
import tenacity

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


def test_first_come_first_served(tmp_path: Path) -> None:
    """While one waits for a place, who comes later stands behind it in the queue."""
    for name in ("0.lock", "queue"):
        (tmp_path / name).touch()
    order: list[int] = []

    def wait(number: int) -> None:
        with pass_through(tmp_path, seconds=20):
            order.append(number)

    def waiters_in_queue() -> int:
        inode = str((tmp_path / "queue").stat().st_ino)
        return sum(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(4)]
    look = tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(0.01), reraise=True)
    with pass_through(tmp_path, seconds=1):
        for expected, thread in enumerate(threads, start=1):
            thread.start()
            for attempt in look.copy():
                with attempt:
                    assert waiters_in_queue() == expected
    for thread in threads:
        thread.join()
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2, 3]


def test_a_frozen_head_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    """Who stands frozen at the head of the queue costs the others their time, with a clear error, and no more."""
    for name in ("0.lock", "queue"):
        (tmp_path / name).touch()
    frozen = subprocess.Popen(
        ["flock", "-F", str(tmp_path / "queue"), "sh", "-c", "echo held; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert frozen.stdout is not None and frozen.stdout.readline() == b"held\n"
    with pytest.raises(Unavailable, match="did not move"), pass_through(tmp_path, seconds=0.2):
        pass
    frozen.kill()
    frozen.communicate()
    with pass_through(tmp_path, seconds=5), pytest.raises(Unavailable, match="all 1 places"):
        pass_through(tmp_path, seconds=0.1).__enter__()
