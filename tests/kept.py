"""Folders that are dear to make, kept below FLEET_HOME by the hash of what they hold; one of each kind is kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def kept(kind: str, held: bytes, make: Callable[[Path], object]) -> Path:
    """The folder of what is HELD, made by MAKE where it is not there yet; what MAKE raises is raised."""
    home = Path(os.environ.get("FLEET_HOME", "/opt/fleet")) / kind
    folder = home / hashlib.sha256(held).hexdigest()[:12]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in home.glob("*/"):
                shutil.rmtree(old)
            make(home / "new")
            (home / "new").rename(folder)
    return folder
