"""A bare Debian 12 root, made by debootstrap from the mirror this machine itself uses, while other tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS = 900


class NoRoot(Exception):
    """A root could not be made; the message says why."""


@dataclass(frozen=True)
class Bare:
    """A root that is being made."""

    root: Path
    making: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> Path:
        """The root, once it is made; raises NoRoot."""
        try:
            code = self.making.wait(SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NoRoot(str(error)) from error
        if code != 0:
            raise NoRoot(f"debootstrap ended with {code}:\n{self.log.read_text(errors='replace')[-4000:]}")
        return self.root


@contextmanager
def begun() -> Iterator[Bare]:
    """Begin to make a root; left, it is gone. Raises NoRoot."""
    root = Path("/var/tmp") / f"fleet-fresh-{os.getpid()}"
    log = root.with_suffix(".log")
    # Its mounts are its own: they end with it, however it ends.
    argv = ["unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm", str(root), _mirror()]
    with log.open("wb") as output:
        making = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Bare(root=root, making=making, log=log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(making.pid, signal.SIGKILL)
        making.wait(10)
        log.unlink()
        if root.exists():
            shutil.rmtree(root)


def _mirror() -> str:
    """The Debian mirror this machine's apt uses for bookworm."""
    argv = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"]
    listed = subprocess.run(argv, text=True, capture_output=True, timeout=60, check=False).stdout
    for line in listed.splitlines():
        codename, _, uri = line.partition(" ")
        if codename == "bookworm":
            return uri
    raise NoRoot(f"apt on this machine has no bookworm mirror; it lists:\n{listed}")
