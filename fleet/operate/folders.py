"""The folders and devices of a fleet, with the owners and modes that keep its parts apart.

Root makes folders that workers own, so nothing here follows a symbolic link in the last part of a path: a
worker that replaces its spool by a link gets an error and not another user's folder.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from fleet.backends import Backend
from fleet.errors import ConfigurationError
from fleet.model import ACCOUNT_GROUP, HUB_ACCOUNT, KEYS_ACCOUNT, NETCTL_ACCOUNT, Fleet, Paths
from fleet.sockets.callers import group_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with the owner and mode that it must have."""

    path: Path
    uid: int = 0
    gid: int = 0
    mode: int = 0o755


def wanted(fleet: Fleet, paths: Paths) -> tuple[Folder, ...]:
    """Every folder but those of a backend, parents before children."""
    group, netctl = grp.getgrnam(ACCOUNT_GROUP).gr_gid, pwd.getpwnam(NETCTL_ACCOUNT).pw_uid
    hub, readers = pwd.getpwnam(HUB_ACCOUNT).pw_uid, grp.getgrnam(HUB_ACCOUNT).gr_gid
    made = [
        Folder(path=paths.run),
        Folder(path=paths.state),
        # Only for root: a worker's log names the pages it loads.
        Folder(path=paths.logs, mode=0o700),
        Folder(path=paths.snapshot.parent, gid=group, mode=0o750),
        Folder(path=paths.netctl_socket.parent, uid=netctl, gid=group, mode=0o750),
        Folder(path=paths.key_store.parent, uid=netctl, mode=0o700),
        Folder(path=paths.hub_socket.parent, uid=hub, gid=group, mode=0o750),
        hub_state(paths),
        Folder(path=paths.given_up.parent, gid=readers, mode=0o2750),
        # Set-group-ID: the socket in it is of that group.
        Folder(path=paths.acts_socket.parent, gid=readers, mode=0o2750),
        Folder(path=paths.run / "launch", mode=0o700),
        Folder(path=paths.run / "locks", mode=0o700),
        Folder(path=paths.state / "workers"),
    ]
    if fleet.keys.source is not None:
        keys = pwd.getpwnam(KEYS_ACCOUNT).pw_uid
        made.append(Folder(path=paths.keyservice_socket.parent, uid=keys, gid=group, mode=0o750))
    for worker in fleet.members:
        # Set-group-ID: the spool that the worker makes in it gets the hub's group, of which no worker is a member.
        made.append(Folder(path=paths.home(worker), uid=worker.uid, gid=readers, mode=0o2750))
        # Root makes nothing below a home: the worker makes its spool itself.
    if (operators := group_number(fleet.netctl.operator_group)) is not None:
        # Set-group-ID: the socket that netctl, no member itself, makes in it gets that group.
        made.append(Folder(path=paths.netctl_operator_socket.parent, uid=netctl, gid=operators, mode=0o2750))
    return tuple(made)


def hub_state(paths: Paths) -> Folder:
    """The folder of the hub's database."""
    return Folder(path=paths.hub_database.parent, uid=pwd.getpwnam(HUB_ACCOUNT).pw_uid, mode=0o700)


def make(folder: Folder) -> None:
    """Make FOLDER with its owner and mode; raises ConfigurationError when something else is in its place."""
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"{folder.path} has to be a folder and is something else", hint=f"look at it, then: rm {folder.path}"
        ) from error
    try:
        _own(descriptor, folder.uid, folder.gid, folder.mode)
    finally:
        os.close(descriptor)


def netctl_lock(paths: Paths) -> None:
    """Make netctl the owner of its lock file, even if root's `netctl cleanup` or `fleet down` made it first.

    No other user may open it: a user who can open a file can hold its lock.
    """
    path, netctl = paths.netctl_lock, pwd.getpwnam(NETCTL_ACCOUNT).pw_uid
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_nlink != 1:
            raise ConfigurationError(f"{path} has another hard link elsewhere", hint=f"rm {path}")
        _own(descriptor, netctl, 0, 0o600)
    finally:
        os.close(descriptor)


def prepare_backend(backend: Backend) -> None:
    """Make the device and the folder that the programs of BACKEND need usable by netctl's account.

    Raises ConfigurationError when there is no such device.
    """
    if backend.device is not None:
        _open_device(backend.device)
    if backend.sockets is not None:
        group, netctl = grp.getgrnam(ACCOUNT_GROUP).gr_gid, pwd.getpwnam(NETCTL_ACCOUNT).pw_uid
        make(Folder(path=backend.sockets, uid=netctl, gid=group, mode=0o700))


def _open_device(device: Path) -> None:
    """Let netctl open DEVICE.

    udev makes it 0666 nearly everywhere. If only root may open it, netctl becomes its owner and the
    mode stays: no other user gains access.
    """
    netctl = pwd.getpwnam(NETCTL_ACCOUNT).pw_uid
    module = f"modprobe {device.name}"
    try:
        found = device.stat()
        if not stat.S_ISCHR(found.st_mode):
            raise ConfigurationError(f"{device} is no device", hint=module)
        if found.st_mode & 0o006 != 0o006 and found.st_uid != netctl:
            os.chown(device, netctl, -1)
    except OSError as error:
        raise ConfigurationError(
            f"{device} cannot be used: {error.strerror}; without WireGuard in the kernel the tunnels need it",
            hint=f"{module}, or give this container the device {device}",
        ) from error


def _own(descriptor: int, uid: int, gid: int, mode: int) -> None:
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    if stat.S_IMODE(found.st_mode) != mode:
        os.fchmod(descriptor, mode)
