"""A worker's own view of the file system: its /etc, next to nothing of /run, an empty /tmp and /dev/shm.

Part of the launcher: runs as root, standard library, fleet.machine.spaces and fleet.machine.syscalls alone.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fleet.launch_spec import POLICY_FOLDERS, LaunchSpec
from fleet.machine import spaces, syscalls

HIDDEN = ("/run", "/var/run", "/var/lib/sss/pipes", "/var/cache/nscd", "/dev/pts")
"""Where programs of other UIDs have their sockets. Many of them (systemd-resolved, nscd, avahi, sssd, machined, D-Bus,
snapd, Docker) resolve names or send for others outside of the tunnel, whatever nsswitch.conf says, and in whatever
network namespace the asker is; and a host may have more of them. So all is hidden, and what a worker needs is kept.

Pseudo terminals: all users share their number (kernel.pty.max, 4096), and without one nobody logs in.
"""
_OCTAL = re.compile(r"\\([0-7]{3})")
_PLAIN = syscalls.MS_NOSUID | syscalls.MS_NODEV


def make(spec: LaunchSpec, gid: int) -> None:
    """A mount namespace of the worker's own, in which it can write to /tmp, /dev/shm and the folders of SPEC alone.

    What is written to /tmp and /dev/shm, the browser's profile included, is memory that the kernel
    frees with the namespace, that is with the last process of the worker, however that ended.
    """
    os.umask(0o022)  # everybody in the namespace reads what is made here, the worker included
    syscalls.private_mounts()
    if spec.space:
        spaces.own_sysfs()
    hide(HIDDEN, spec.keep)
    own_etc(spec.etc)
    # /proc shows the PID namespace of the process that mounted it.
    syscalls.mount("proc", "/proc", "proc", _PLAIN | syscalls.MS_NOEXEC)
    protect(spec.write, set_uid=not spec.user_namespaces)
    options = f"size={spec.tmp_mebibytes}m,mode=0700,uid={spec.uid},gid={gid}"
    for place in ("/tmp", "/dev/shm"):
        syscalls.mount("tmpfs", place, "tmpfs", _PLAIN, options)


def hide(folders: Iterable[str], keep: Iterable[str]) -> None:
    """An empty file system over each of FOLDERS, with only those of KEEP in it that lay there.

    A folder that is a link (/var/run, usually) is hidden where it leads to, or is no worker's business.
    """
    kept = [Path(path).resolve() for path in keep]
    for folder in map(Path, folders):
        if folder.is_dir() and not folder.is_symlink():
            _hide(folder, [path for path in kept if folder in path.parents])


def _hide(folder: Path, keep: Iterable[Path]) -> None:
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in keep}
    syscalls.mount("tmpfs", str(folder), "tmpfs", _PLAIN, "size=1m,mode=0755")
    for path, descriptor in held.items():
        path.mkdir(parents=True)
        # Its name leads to the new file system now; the descriptor still leads to the old one.
        syscalls.bind(Path(f"/proc/self/fd/{descriptor}"), path)
        os.close(descriptor)


def protect(but: Iterable[str], *, set_uid: bool) -> None:
    """Everything is read-only but these folders, whatever has a mode that is too wide (/var/tmp, for example).

    Without SET_UID no program on any mount gives its caller another UID.

    /proc stays as it is: Chrome's sandbox writes the maps of its user namespace there.
    """
    own = [Path(path) for path in but]
    for path in own:
        syscalls.bind(path, path, below=True)  # a mount, which can differ from what is around it
    written = [path for path in _written() if any(top in (path, *path.parents) for top in own)]
    try:
        syscalls.read_only(Path("/"), below=True, set_uid=set_uid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Before Linux 5.12 modes alone protect, as they do everywhere else on such a host.
        print("launcher: this kernel cannot make the file system read-only (Linux 5.12)", file=sys.stderr)  # noqa: T201
        return
    for path in (Path("/proc"), *written):
        syscalls.writable(path)


def _written() -> Iterator[Path]:
    """Where a mount is that can be written to (proc_pid_mountinfo(5)): an operator's disk below a worker's home too."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, options = line.split()[4:6]
        if "rw" in options.split(","):
            yield Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), place))


def own_etc(files: Mapping[str, str]) -> None:
    """FILES in front of the host's /etc.

    An overlay rather than binds over single files: when the host replaces a file by renaming a new
    one over it, the kernel drops every mount on the old one, in all namespaces (vfs detach_mounts since
    Linux 3.18), and the worker would suddenly see the host's resolvers.
    """
    syscalls.mount("tmpfs", "/tmp", "tmpfs", 0, "size=4m,mode=0755")
    layer = Path("/tmp")
    for name, content in files.items():
        path = layer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    try:
        syscalls.mount("overlay", "/etc", "overlay", syscalls.MS_RDONLY | _PLAIN, f"lowerdir={layer}:/etc")
    except OSError:
        # No overlay in this kernel, or too many stacked below: bind, over what links point to.
        _bind_etc(layer, files)
        return
    for folder in POLICY_FOLDERS:
        if (layer / folder).is_dir():
            syscalls.bind(layer / folder, Path("/etc") / folder)  # the host's own policies are not the fleet's


def _bind_etc(layer: Path, files: Iterable[str]) -> None:
    """The same by binds, where an overlay cannot be had; the policy folders are made when missing."""
    for name in files:
        target = Path(os.path.realpath(Path("/etc") / name))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        syscalls.bind(layer / name, target)
