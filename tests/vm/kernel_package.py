"""A Debian kernel with wireguard.ko, laid out below FLEET_HOME/vm: fetched once a version, never installed.

`python -m tests.vm.kernel_package` does so, where the package registries can be reached.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-amd64"
"""Depends on the newest generic kernel; the cloud flavour has no 9p."""
FETCH_SECONDS = 300


class NoKernel(Exception):
    """A kernel could not be had; the message says what was tried."""


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

    def with_dependencies(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """File name and content of modules, each behind those it needs; built in ones are left out."""
        tree = self.modules / self.version
        needs = {}
        for line in (tree / "modules.dep").read_text().splitlines():
            path, _, others = line.partition(":")
            needs[path] = others.split()
        paths = {_module_name(path): path for path in needs}
        order: list[str] = []

        def visit(path: str) -> None:
            for other in needs[path]:
                visit(other)
            if path not in order:
                order.append(path)

        for name in names:
            if name in paths:
                visit(paths[name])
        return [(f"{_module_name(path)}.ko", _content(tree / path)) for path in order]


def _module_name(path: str) -> str:
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def ready() -> Kernel:
    """The newest kernel that apt knows, laid out; raises NoKernel."""
    package = _newest()
    home = Path(os.environ.get("FLEET_HOME", "/opt/fleet")) / "vm"
    home.mkdir(parents=True, exist_ok=True)
    kernel = Kernel(folder=home / package, version=package.removeprefix("linux-image-"))
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kernel.folder.exists():
            fresh = home / ".new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _lay_out(package, kernel.version, fresh)
            fresh.rename(kernel.folder)
    return kernel


def _newest() -> str:
    pattern = r"^\s*\|?Depends: (linux-image-[0-9][^\s<>]*-amd64)$"
    for refreshed in (False, True):
        if refreshed:
            _run("apt-get", "update", "-q")
        found = re.findall(pattern, _run("apt-cache", "depends", META_PACKAGE), re.MULTILINE)
        if found:
            return str(found[0])
    raise NoKernel(f"apt knows no kernel behind {META_PACKAGE}; this tier needs Debian's package lists (amd64)")


def _lay_out(package: str, version: str, folder: Path) -> None:
    try:
        _run("apt-get", "download", "-q", package, cwd=folder)
    except NoKernel:
        _run("apt-get", "update", "-q")  # lists may name a version that the mirror has replaced
        _run("apt-get", "download", "-q", package, cwd=folder)
    for archive in folder.glob("*.deb"):
        _run("dpkg-deb", "-x", str(archive), str(folder))
        archive.unlink()
    if not (folder / "lib").exists():
        (folder / "lib").symlink_to("usr/lib")  # where newer packages keep the modules
    _run("depmod", "-b", str(folder), version)


def _run(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise NoKernel(f"`{' '.join(argv)}` ended with {done.returncode}: {' / '.join(said)}")
    return done.stdout


if __name__ == "__main__":
    print(ready().folder)
