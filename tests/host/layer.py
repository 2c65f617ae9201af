"""Debian's packages that a real host has beside the fleet, as a layer over this machine's own file system.

`python -m tests.host.layer` makes it, if the package registries can be reached. It is cached below FLEET_HOME/host by
the hash of its packages and of those of the machine below it.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

from tests import kept as folders

PACKAGES = (
    *("dbus", "systemd-resolved", "network-manager", "nftables", "firewalld", "ufw", "docker.io", "logrotate"),
    "systemd",  # with the version of what nspawn brings
)
HERE = Path(__file__).resolve().parent


def kept() -> Path:
    """The layer; it is made if it does not exist. Raises NotMade."""
    script = HERE / "layer.sh"
    held = "\0".join(PACKAGES).encode() + script.read_bytes() + Path("/var/lib/dpkg/status").read_bytes()
    return folders.kept("host", held, partial(_make, script))


def _make(script: Path, layer: Path) -> None:
    layer.mkdir()
    own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    with tempfile.TemporaryDirectory(prefix="fleet-layer-", dir="/var/tmp") as folder:
        folders.call(*own, script, folder, *PACKAGES, env={**os.environ, "LAYER": str(layer)})


if __name__ == "__main__":
    print(kept())
