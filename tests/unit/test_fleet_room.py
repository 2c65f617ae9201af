"""How much room there is, in words that say what it means."""

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
    """At four times what there has to be."""
    found = Room(folder=Path("/x"), free_mebibytes=free, least_mebibytes=256)
    assert found.state == state and words in str(found)


def test_the_fullest_disk_counts() -> None:
    """/proc has no room at all."""
    found = room([Path("/tmp"), Path("/proc")], 1)
    assert (found.folder, found.state) == (Path("/proc"), "full")
    assert room([Path("/tmp")], 0).state == "has_room"
