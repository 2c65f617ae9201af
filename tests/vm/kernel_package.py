"""A Debian kernel with wireguard.ko, laid out below FLEET_HOME/kernel: fetched once a version, never installed.

`python -m tests.vm.kernel_package` does so, where the package registries can be reached.
"""

from __future__ import annotations

import lzma
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.kept import NotMade, call, kept

META_PACKAGE = "linux-image-amd64"
"""Depends on the newest generic kernel; the cloud flavour has no 9p."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel package."""

    folder: Path
    version: str
    """As `uname -r` has it: 6.1.0-56-amd64."""

    @property
    def image(self) -> Path:
        return self.folder / "boot" / f"vmlinuz-{self.version}"

    @property
    def modules(self) -> Path:
        """The folder that belongs at /lib/modules."""
        return self.folder / "lib/modules"

    def with_dependencies(self, names: Iterable[str]) -> dict[str, bytes]:
        """Content of modules by file name, each behind those it needs; left out are built in ones and unknown ones."""
        there = ("--config", "/dev/null", "--dirname", str(self.folder), "--set-version", self.version)
        argv = ("modprobe", "--all", "--show-depends", *there, *names)
        listed = subprocess.run(argv, text=True, capture_output=True, check=False).stdout.splitlines()
        paths = [Path(line.split()[1]) for line in listed if line.startswith("insmod ")]
        return {f"{path.name.partition('.')[0]}.ko": _content(path) for path in paths}


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def ready() -> Kernel:
    """The newest kernel that apt knows, laid out; raises NotMade."""
    package = _newest()
    version = package.removeprefix("linux-image-")
    return Kernel(folder=kept("kernel", package.encode(), partial(_lay_out, package, version)), version=version)


def _newest() -> str:
    pattern = r"^\s*\|?Depends: (linux-image-[0-9][^\s<>]*-amd64)$"
    for refreshed in (False, True):
        if refreshed:
            call("apt-get", "update", "-q")
        found = re.findall(pattern, call("apt-cache", "depends", META_PACKAGE), re.MULTILINE)
        if found:
            return str(found[0])
    raise NotMade(f"apt knows no kernel behind {META_PACKAGE}; this tier needs Debian's package lists (amd64)")


def _lay_out(package: str, version: str, folder: Path) -> None:
    folder.mkdir()
    try:
        call("apt-get", "download", "-q", package, cwd=folder)
    except NotMade:
        call("apt-get", "update", "-q")  # lists may name a version that the mirror has replaced
        call("apt-get", "download", "-q", package, cwd=folder)
    for archive in folder.glob("*.deb"):
        call("dpkg-deb", "-x", archive, folder)
        archive.unlink()
    if not (folder / "lib").exists():
        (folder / "lib").symlink_to("usr/lib")  # where newer packages keep the modules
    call("depmod", "-b", folder, version)


if __name__ == "__main__":
    print(ready().folder)
