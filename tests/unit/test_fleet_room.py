"""The free space on disks, and what it means in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.machine.room import Room, room


@pytest.mark.parametrize(
    ("free", "state", "words"),
    [
        (1024, "has_room", ""),
        (1023, "low", "with less than 256 MiB no job begins"),
        (255, "full", "no job begins (hub"),
    ],
)
def test_it_is_said_long_before(free: int, state: str, words: str) -> None:
    """The warning begins at four times the required space."""
    found = Room(folder=Path("/x"), free_mebibytes=free, least_mebibytes=256)
    assert found.state == state and words in str(found)


def test_the_fullest_disk_counts() -> None:
    """Of several disks the fullest counts: /proc has no free space."""
    found = room([Path("/tmp"), Path("/proc")], 1)
    assert (found.folder, found.state) == (Path("/proc"), "full")
    assert room([Path("/tmp")], 0).state == "has_room"
