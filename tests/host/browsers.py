"""Packages of two Chromium releases that Debian has now: this machine's own, and another.

`python -m tests.host.browsers` fetches them, if the package registries can be reached. They are cached below
FLEET_HOME/host-browsers, some 110 MB each.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests import kept as folders
from tests.kept import call


def kept() -> dict[str, list[Path]]:
    """By version, the packages of each available release; this machine's own first, if it is one of them."""
    names, own = _installed()
    offered = _offered() or (call("apt-get", "update", "-q") and _offered())
    versions = [one for one in dict.fromkeys((own, *offered)) if one in offered][:2]
    folder = folders.kept("host-browsers", "\0".join((*names, *versions)).encode(), partial(_fetch, names, versions))
    return {version: sorted((folder / version).glob("*.deb")) for version in versions}


def _installed() -> tuple[list[str], str]:
    """The packages of Chromium's source that this machine has, and their version."""
    listed = call("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\n", "chromium*")
    found = [line.split() for line in listed.splitlines() if line.startswith("installed ")]
    return [name for _, name, _ in found], next(version for _, name, version in found if name == "chromium")


def _offered() -> list[str]:
    """The offered versions, the newest first."""
    return [line.split("|")[1].strip() for line in call("apt-cache", "madison", "chromium").splitlines()]


def _fetch(names: list[str], versions: list[str], folder: Path) -> None:
    for version in versions:
        (folder / version).mkdir(parents=True)
        call("apt-get", "download", "-q", *(f"{name}={version}" for name in names), cwd=folder / version)


if __name__ == "__main__":
    print(*kept())
