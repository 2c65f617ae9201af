"""Free disk space, compared with what is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LOW = 4
"""Below this many times the needed space the state is `low`, which is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The free space of the fullest of some folders."""

    folder: Path
    free_mebibytes: int
    least_mebibytes: int

    @property
    def state(self) -> Literal["has_room", "low", "full"]:
        if self.free_mebibytes >= LOW * self.least_mebibytes:
            return "has_room"
        return "low" if self.free_mebibytes >= self.least_mebibytes else "full"

    def __str__(self) -> str:
        words = "no job begins" if self.state == "full" else f"with less than {self.least_mebibytes} MiB no job begins"
        return f"{self.folder}: {self.free_mebibytes} MiB are free: {words} (hub.keep.free_mebibytes)"


def room(folders: Iterable[Path], least_mebibytes: int) -> Room:
    """The space of the fullest of FOLDERS (at least one)."""
    free, folder = min((_free(folder), folder) for folder in folders)
    return Room(folder=folder, free_mebibytes=free >> 20, least_mebibytes=least_mebibytes)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
