"""Caches folders that are expensive to make below FLEET_HOME, by the hash of their input; one of each kind."""

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
    """The folder could not be made; the message names the command that failed."""


def kept(kind: str, held: bytes, make: Callable[[Path], object]) -> Path:
    """The folder for the input HELD; MAKE makes it if it does not exist, and its errors pass through."""
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
    """The standard output of ARGV; if it fails, raises NotMade with the end of its output."""
    done = subprocess.run(argv, cwd=cwd, env=env, text=True, capture_output=True, timeout=SECONDS, check=False)
    if done.returncode:
        words = " ".join(map(str, argv))
        raise NotMade(f"`{words}` ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout
