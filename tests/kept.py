"""Folders that are dear to make, kept below FLEET_HOME by the hash of what they hold; one of each kind is kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 900


class NotMade(Exception):
    """It could not be had; the message says what was tried."""


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


def call(*argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What ARGV says at its good end; raises NotMade with its last words."""
    done = subprocess.run(argv, cwd=cwd, env=env, text=True, capture_output=True, timeout=SECONDS, check=False)
    if done.returncode:
        words = " ".join(map(str, argv))
        raise NotMade(f"`{words}` ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
