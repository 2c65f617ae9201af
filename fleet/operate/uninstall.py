"""`fleet uninstall`: removes what bin/setup, the fleet and `fleet doctor --fix` have made on this machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fleet.backends import BACKENDS
from fleet.errors import FleetError, UsageError
from fleet.model import Paths
from fleet.operate import accounts, lifecycle, prepare
from fleet.operate.doctor.dropins import NETWORK_MANAGER, NETWORKD
from fleet.paths import home
from fleet.programs import PLAIN_ENVIRONMENT, Installation, call
from fleet.terminal import console

_MACHINE = Path("/")
_UNIT = Path("/etc/systemd/system/fleet.service")
_COMMANDS = ("fleet", "netctl")
_SYSTEMCTL_SECONDS = 30.0


def uninstall(arguments: argparse.Namespace) -> None:
    """`fleet uninstall`; raises TryLater while the fleet runs, UsageError if keys or results exist without the flag."""
    paths = Paths.from_environment()
    installation = Installation(paths=paths)
    if (home() / "wheels").is_dir():  # bin/package
        raise UsageError("this fleet came as a Debian package", hint="sudo apt-get purge fleet")
    with lifecycle.operator(paths):
        lifecycle.refuse_if_running(installation)
        prepare.alone(installation)
        found = [path for path in _places(paths) if os.path.lexists(path)]
        console.show("to be removed:", *(f"  {path}" for path in found), "  the accounts netctl and w1101 ...")
        own = [path for path in (paths.state, paths.tasks) if path.exists()]
        if own and not arguments.keys_and_results:
            words = f"nothing was removed: keys, results or tasks of your own are in {' and '.join(map(str, own))}"
            raise UsageError(words, hint="keep what you need of it, then: sudo fleet uninstall --keys-and-results")
        packages = _packages()
        lifecycle.stop(None, installation)
        accounts.remove()
        if _UNIT in found:
            _disable()
        for path in found:
            _remove(path)
    if packages:
        console.say(f"these Debian packages came with bin/setup and stay: sudo apt-get purge {packages}")
    console.say("removed; this checkout stays")


def _places(paths: Paths) -> Iterator[Path]:
    """Files and folders that may exist; those outside FLEET_ROOT only when that is `/`."""
    yield from (paths.config.parent, paths.state, paths.logs, paths.run)
    yield from (paths.root / NETWORKD, paths.root / NETWORK_MANAGER)
    if paths.root != _MACHINE:
        return
    yield from (backend.sockets for backend in BACKENDS.values() if backend.sockets is not None)
    if _UNIT.is_file() and "/fleet up --foreground" in _UNIT.read_text(errors="replace"):
        yield _UNIT
    for name in _COMMANDS:
        link = Path("/usr/local/bin") / name
        if link.is_symlink() and (link.readlink().parent / "build-wheel").exists():  # as bin/setup makes it
            yield link
    yield home()


def _packages() -> str:
    """The Debian packages that bin/setup has recorded, separated by spaces."""
    with contextlib.suppress(OSError):
        return " ".join((home() / "packages").read_text().split())
    return ""


def _disable() -> None:
    with contextlib.suppress(FleetError):  # a machine or container without systemd
        call(["systemctl", "disable", _UNIT.name], PLAIN_ENVIRONMENT, deadline_seconds=_SYSTEMCTL_SECONDS)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path in {backend.sockets for backend in BACKENDS.values()}:
        with contextlib.suppress(OSError):  # other tunnels of this host have their sockets in it
            path.rmdir()
    else:
        shutil.rmtree(path)
