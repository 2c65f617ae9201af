"""A bare Debian 12 root, made by debootstrap from the mirror this machine itself uses and kept for the day.

`python -m tests.fresh.bare` makes it, where the package registries can be reached.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from tests import kept as folders
from tests.kept import NotMade, call


def kept() -> Path:
    """Today's root, for copies; made where it is not there yet. Raises NotMade."""
    # Its mounts are its own: they end with it, however it ends.
    make = ("unshare", "--mount", "debootstrap", "--variant=minbase", "bookworm")
    mirror = _mirror()
    words = (*make, mirror, str(datetime.now(timezone.utc).date()))
    return folders.kept("bare", "\0".join(words).encode(), lambda new: call(*make, new, mirror))


@contextmanager
def copy() -> Iterator[Path]:
    """A root of one's own, gone at the end. Raises NotMade."""
    root = Path("/var/tmp") / f"fleet-fresh-{os.getpid()}"
    try:
        call("cp", "--archive", "--reflink=auto", kept(), root)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _mirror() -> str:
    """The Debian mirror this machine's apt uses for bookworm."""
    for line in call("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)").splitlines():
        codename, _, uri = line.partition(" ")
        if codename == "bookworm":
            return uri
    raise NotMade("apt on this machine has no bookworm mirror")


if __name__ == "__main__":
    print(kept())
