"""A worker's own view of the file system: its own /etc, almost nothing of /run, an empty /tmp and /dev/shm.

Part of the launcher, which runs as root: imports only the standard library and a few files of fleet.
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
"""Folders with sockets of programs of other UIDs. Many of these (systemd-resolved, nscd, avahi, sssd, machined, D-Bus,
snapd, Docker) resolve names or send for their clients outside the tunnel, no matter what nsswitch.conf says and which
network namespace the client is in. A host may have more of them, so all is hidden but what a worker needs.

/dev/pts: all users share the number of pseudo terminals (kernel.pty.max, 4096), and without one nobody can log in.
"""
_OCTAL = re.compile(r"\\([0-7]{3})")
_PLAIN = syscalls.MS_NOSUID | syscalls.MS_NODEV


def make(spec: LaunchSpec, gid: int) -> None:
    """Make the worker's own mount namespace, in which it can write only to /tmp, /dev/shm and the folders of SPEC.

    /tmp and /dev/shm, with the browser's profile, are in memory. The kernel frees it with the namespace, that is when
    the last process of the worker has ended, for whatever reason.
    """
    os.umask(0o022)  # everything made here is readable for all in the namespace, the worker included
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
    """Mount an empty file system over each of FOLDERS, and keep in it only those folders of KEEP that were there.

    A folder that is a link (usually /var/run) is skipped: its target is in FOLDERS itself, or needs no hiding.
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
    """Make everything read-only except the folders BUT, even where modes would allow writing (/var/tmp, for example).

    Without SET_UID no program on any mount gives its caller another UID.

    /proc stays writable: Chrome's sandbox writes the UID and GID maps of its user namespace there.
    """
    own = [Path(path) for path in but]
    for path in own:
        syscalls.bind(path, path, below=True)  # its own mount can have flags that differ from those around it
    written = [path for path in _written() if any(top in (path, *path.parents) for top in own)]
    try:
        syscalls.read_only(Path("/"), below=True, set_uid=set_uid)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Before Linux 5.12 only file modes protect, as everywhere else on such a host.
        print("launcher: this kernel cannot make the file system read-only (Linux 5.12)", file=sys.stderr)  # noqa: T201
        return
    for path in (Path("/proc"), *written):
        syscalls.writable(path)


def _written() -> Iterator[Path]:
    """The writable mounts (proc_pid_mountinfo(5)), for example an operator's disk below a worker's home."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place, options = line.split()[4:6]
        if "rw" in options.split(","):
            yield Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), place))


def own_etc(files: Mapping[str, str]) -> None:
    """Lay FILES (content by name below /etc) over the host's /etc.

    This uses an overlay and not bind mounts over single files: when the host replaces a file by renaming a new one over
    it, the kernel removes every mount on the old one, in all namespaces (vfs detach_mounts since Linux 3.18), and the
    worker would suddenly see the host's resolvers.
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
        # The kernel has no overlay, or too many are stacked already: bind over the targets of links.
        _bind_etc(layer, files)
        return
    for folder in POLICY_FOLDERS:
        if (layer / folder).is_dir():
            syscalls.bind(layer / folder, Path("/etc") / folder)  # hides the host's own policies


def _bind_etc(layer: Path, files: Iterable[str]) -> None:
    """The same with bind mounts, where an overlay is not possible; missing files are created on the host."""
    for name in files:
        target = Path(os.path.realpath(Path("/etc") / name))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        syscalls.bind(layer / name, target)
