"""Run a program inside a lab's host: `enter.py RECORD INSTANCE NETWORK SEEN NAMES FLEET_ROOT PROGRAM ARGUMENT...`.

A separate program that ends in exec, so that callers need no preexec function and their
threads stay in their namespaces. Inside are the host's NETWORK and, in a private mount namespace, its own
/etc/resolv.conf, /etc/nsswitch.conf and /run/wireguard, from the folder SEEN, because wireguard-go uses one
socket folder for the whole machine, in every namespace. It runs before every program of a lab, so it is
started without `site` and imports as little as possible.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fleet.machine import spaces, syscalls


def enter(network: Path, seen: Path, names: Path) -> None:
    """Move this process into the host of that NETWORK; raises OSError."""
    spaces.enter(network)
    # Every process that enters sees the names of the workers' namespaces, even those made later.
    private_mounts_but(names)
    spaces.own_sysfs()
    for name in ("resolv.conf", "nsswitch.conf"):
        target = Path("/etc", name)
        if not target.exists():
            target.touch()  # a mount needs something to be mounted on; empty means the same as absent
        syscalls.bind(seen / name, target)
    sockets = Path("/run/wireguard")
    sockets.mkdir(mode=0o755, exist_ok=True)
    syscalls.bind(seen / "wireguard", sockets)
    # The machine's name service cache and resolver would answer from outside of the lab.
    for way_out in (Path("/run/nscd"), Path("/run/systemd/resolve")):
        if way_out.is_dir():
            syscalls.bind(seen / "empty", way_out)


def private_mounts_but(folder: Path) -> None:
    """Like syscalls.private_mounts(), but names made in FOLDER still appear in every mount namespace."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # The fifth field is the mount point, with octal escapes (proc(5)).
        place = Path(line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode())
        if not place.is_relative_to(folder):
            with contextlib.suppress(OSError):  # hidden by another mount, so nothing is mounted below it
                syscalls.mount("none", str(place), "none", syscalls.MS_SLAVE)


def main() -> None:
    """Enter, then become the program."""
    record, instance, network, seen, names, root, *command = sys.argv[1:]
    try:
        enter(Path(network), Path(seen), Path(names))
        if root:
            os.environ["FLEET_ROOT"] = root
        # The caller may have been killed and its lab removed and made again since: a program for
        # the old lab must not run in the new one. From here on `down` finds this process by its namespace.
        if f'"{instance}"' not in Path(record).read_text():
            sys.exit(f"lab: the lab of {network} was removed while {command[0]} was being started in it")
        os.execvp(command[0], command)  # noqa: S606 - becoming the caller's program is the purpose
    except OSError as error:
        print(f"lab: {network}: {command[0]}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main()
