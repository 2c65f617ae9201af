"""Named network namespaces, as `ip netns` makes them: a namespace is bind-mounted on a file (ip-netns(8)).

Root makes, removes and enters them. Standard library and fleet.machine.syscalls only, because the worker's
launcher does so too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from pathlib import Path

from fleet.machine import syscalls

NAMED = ("unshare", "--mount", "--net", "mount", "--bind", "/proc/self/ns/net", "/dev/null")
"""A command that binds a new network namespace to a file, as a test; the mount is private and ends with the command."""
_NAME = re.compile(r"fleet-w\d{4}")
_MS_SHARED = 1 << 20
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
"""linux/sockios.h, linux/if.h."""
_FLAGS = struct.Struct("16sH22x")
"""struct ifreq with its flags."""
_OWN = "/proc/thread-self/ns/net"


def share(folder: Path) -> None:
    """Make FOLDER a shared mount: names in it appear in every mount namespace, older ones too. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # netctl must be able to enter it, whatever our umask is
    try:
        syscalls.mount("none", str(folder), "none", _MS_SHARED | syscalls.MS_REC)
    except OSError:  # EINVAL: no mount point yet
        syscalls.mount(str(folder), str(folder), "none", syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount("none", str(folder), "none", _MS_SHARED | syscalls.MS_REC)


def make(path: Path) -> None:
    """Make a namespace named PATH, with loopback up, if it does not exist. Raises OSError."""
    if is_bound(path):
        return
    share(path.parent)
    with contextlib.suppress(FileExistsError):  # the name is there, but its namespace is gone
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    errors: list[OSError] = []

    def made() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            _loopback_up()
            syscalls.bind(Path(_OWN), path)
        except OSError as error:
            errors.append(error)

    import threading  # imported here: a launcher whose namespace exists does not need it

    # unshare(2) moves only the calling thread, so a temporary thread calls it.
    thread = threading.Thread(target=made)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _loopback_up() -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        name, flags = _FLAGS.unpack(fcntl.ioctl(asking, _SIOCGIFFLAGS, _FLAGS.pack(b"lo", 0)))
        fcntl.ioctl(asking, _SIOCSIFFLAGS, _FLAGS.pack(name, flags | _IFF_UP))


def remove(path: Path) -> None:
    """Remove the name PATH, if it exists; the namespace ends with the last process in it. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if is_bound(path):
            syscalls.unmount(path)
        path.unlink()


def clear(folder: Path) -> None:
    """Remove every name of the fleet in FOLDER, and the mount that share() made."""
    for name in names(folder):
        remove(folder / name)
    with contextlib.suppress(OSError):  # EINVAL: it was not shared
        syscalls.unmount(folder)


def names(folder: Path) -> frozenset[str]:
    """The names of workers' namespaces in FOLDER, including names whose namespace is gone."""
    try:
        return frozenset(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return frozenset()


def bound(folder: Path) -> frozenset[str]:
    """Those of names() that are bound to a namespace."""
    return frozenset(name for name in names(folder) if is_bound(folder / name))


def is_bound(path: Path) -> bool:
    """Whether the name PATH is bound to a namespace: then the file is on another device than its folder."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def enter(path: Path) -> None:
    """Move this thread into the namespace named PATH (setns(2)); raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(descriptor, syscalls.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def own_sysfs() -> None:
    """Mount sysfs again, because /sys/class/net lists the network namespace in which sysfs was mounted.

    The cgroup mount below it is kept. Some containers refuse the mount, which is ignored: no program of the fleet in
    a worker reads /sys/class/net.
    """
    try:
        cgroups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # no sysfs here at all
    try:
        syscalls.mount("sysfs", "/sys", "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        syscalls.mount(f"/proc/self/fd/{cgroups}", "/sys/fs/cgroup", "none", syscalls.MS_BIND | syscalls.MS_REC)
    except OSError:
        pass
    finally:
        os.close(cgroups)
