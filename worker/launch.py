"""Root's last act for one worker: `worker.launch SPEC` (JSON, written by `worker prepare`) becomes the worker.

    account checked -> lock of the UID -> left-overs killed -> own network namespace (isolation netns) -> own mounts
        -> limits -> seccomp -> UID dropped -> exec

It runs as root in front of every worker, so it imports the standard library, one seccomp library,
fleet.spaces and fleet.syscalls alone; everything it needs to know stands in SPEC, which only root can have written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import resource
import signal
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyseccomp

from fleet import spaces, syscalls

CONFIGURATION, TRY_LATER, NOT_ALLOWED = 78, 75, 77
"""As in fleet.errors.ExitCode, which this file does not import (it would bring pydantic to root)."""
LOCK_SECONDS = 10
KILL_SECONDS = 10
AF_NETLINK = 16
FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""
LAST_PROTOCOL = 255
"""Above it are no protocols of IP but the kernel's own layers: SMC, MPTCP (linux/in.h)."""
GROUP_OPTIONS = {0: (35, 39, 42, 46), 41: (20, 42, 46)}
"""By level (IPPROTO_IP, IPPROTO_IPV6): the options that join a multicast group (linux/in.h, linux/in6.h)."""
_INT = 0xFFFFFFFF
"""What the kernel looks at of an int that comes in a wider register."""
RESOLVERS = ("/run/nscd", "/run/systemd/resolve", "/run/dbus", "/run/avahi-daemon")
"""Sockets behind which another UID resolves names, outside of the tunnel: whatever nsswitch.conf says, they answer."""
POLICY_FOLDERS = ("chromium/policies/managed", "opt/chrome/policies/managed")
"""Below /etc: where Chromium (Debian) and Google Chrome look for policies."""


class Refused(Exception):
    """The launch cannot go on; carries the exit code and one clear message."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What the launcher is told; one JSON object with these fields."""

    uid: int
    account: str
    """The passwd name the UID must have."""
    argv: list[str]
    environment: dict[str, str]
    home: str
    lock: str
    etc: dict[str, str]
    """Files below /etc that the worker sees instead of, or beside, the host's: path -> content."""
    deny_netlink: bool
    open_files: int
    tmp_mebibytes: int
    space: str = ""
    """The name (a path) of the network namespace to enter; "": stay."""
    death_signal: int
    """Sent to the worker when its parent, the supervisor, is gone."""


def main() -> NoReturn:
    """Become the worker, or say in one line why not."""
    try:
        become(read_spec(Path(sys.argv[1])))
    except Refused as refusal:
        print(f"worker.launch: {refusal}", file=sys.stderr)  # noqa: T201 - this program's only output
        sys.exit(refusal.code)
    except OSError as error:
        print(f"worker.launch: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(TRY_LATER)


def become(spec: Spec) -> NoReturn:
    """Everything in order; the last step replaces this program by the worker."""
    gid = check_account(spec)
    descriptor = take_lock(spec)
    sweep(spec.uid)
    own_network(spec)
    own_mounts(spec, gid)
    if spec.space:
        spaces.own_sysfs()
    limit(spec)
    restrict_sockets(netlink=not spec.deny_netlink)
    drop(spec, gid)
    os.set_inheritable(descriptor, True)  # the lock lives as long as the worker does
    os.chdir(spec.home)
    os.execve(spec.argv[0], spec.argv, spec.environment)


def read_spec(path: Path) -> Spec:
    """The spec at PATH; refuses a file that somebody other than root could have written."""
    if os.geteuid() != 0:
        raise Refused(NOT_ALLOWED, "needs root; supervisord starts it")
    try:
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Refused(NOT_ALLOWED, f"{path} must belong to root and be writable by root alone")
            return Spec(**json.load(file))
    except FileNotFoundError:
        raise Refused(CONFIGURATION, f"{path} is not there; run: fleet up") from None
    except (ValueError, TypeError) as error:
        raise Refused(CONFIGURATION, f"{path} is no launch spec ({error}); run: fleet up") from None


def check_account(spec: Spec) -> int:
    """The primary group of the worker's account; refuses a UID that is somebody else's (AccountTaken)."""
    try:
        entry = pwd.getpwuid(spec.uid)
    except KeyError:
        raise Refused(CONFIGURATION, f"UID {spec.uid} has no account {spec.account}; run: fleet up") from None
    if entry.pw_name != spec.account:
        message = (
            f"UID {spec.uid} belongs to {entry.pw_name!r}, not to the fleet's {spec.account}; "
            "choose a free range: workers.first_uid in fleet.toml"
        )
        raise Refused(CONFIGURATION, message)
    return entry.pw_gid


def take_lock(spec: Spec) -> int:
    """A descriptor that holds the UID's lock. A left-over worker that has it is killed first."""
    path = Path(spec.lock)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    sweep(spec.uid)  # an earlier worker, unknown to this supervisor
    with alarm(LOCK_SECONDS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except InterruptedError:
            message = f"another launch of {spec.account} holds {path}; is a second supervisor running?"
            raise Refused(TRY_LATER, message) from None
    return descriptor


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Blocking calls inside raise InterruptedError after SECONDS."""

    def interrupt(number: int, frame: object) -> None:
        raise InterruptedError(errno.EINTR, "took too long")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def sweep(uid: int) -> None:
    """Kill every process of UID and return when the last one is gone; refuses when one does not go."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        # A process may fork between the look and the kill, so look until nobody is found.
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        found = [pid for pid in numbers if is_alive_of(pid, uid)]
        if not found:
            return
        for pid in found:
            syscalls.kill(pid, deadline)
        if time.monotonic() > deadline:
            raise Refused(TRY_LATER, f"processes {found} of UID {uid} do not end, even after SIGKILL")


def is_alive_of(pid: int, uid: int) -> bool:
    """Whether PID runs under UID, be it its real, effective, saved or file system one.

    A zombie does not, unless its first thread alone has ended: the others go on behind that state.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    ended = fields["State"][0] in "ZX" and int(fields.get("Threads", ["1"])[0]) <= 1
    return str(uid) in fields["Uid"] and not ended


def own_network(spec: Spec) -> None:
    """Into the worker's own network namespace. One that has lost its name is made anew, for netctl to furnish.

    Before the mounts are private: a name made here has to show to everybody.
    """
    if spec.space:
        spaces.make(Path(spec.space))
        spaces.enter(Path(spec.space))


def own_mounts(spec: Spec, gid: int) -> None:
    """A mount namespace of the worker's own: /etc with the worker's files, empty /tmp and /dev/shm.

    What is written to /tmp and /dev/shm, the browser's profile included, is memory that the kernel
    frees with the namespace, that is with the last process of the worker, however that ended.
    """
    syscalls.private_mounts()
    for way_out in map(Path, RESOLVERS):
        if way_out.is_dir():
            syscalls.mount("tmpfs", str(way_out), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=16k,mode=0755")
    own_etc(spec.etc)
    options = f"size={spec.tmp_mebibytes}m,mode=0700,uid={spec.uid},gid={gid}"
    for place in ("/tmp", "/dev/shm"):
        syscalls.mount("tmpfs", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)


def own_etc(files: dict[str, str]) -> None:
    """FILES in front of the host's /etc.

    An overlay rather than binds over single files: when the host replaces a file by renaming a new
    one over it, the kernel drops every mount on the old one, in all namespaces (vfs detach_mounts since
    Linux 3.18), and the worker would suddenly see the host's resolvers.
    """
    os.umask(0o022)  # everybody in the namespace reads /etc, the worker included
    syscalls.mount("tmpfs", "/tmp", "tmpfs", 0, "size=4m,mode=0755")
    layer = Path("/tmp")
    for name, content in files.items():
        path = layer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    try:
        flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("overlay", "/etc", "overlay", flags, f"lowerdir={layer}:/etc")
    except OSError:
        # No overlay in this kernel, or too many stacked below: bind, over what links point to.
        bind_etc(layer, files)
        return
    for folder in POLICY_FOLDERS:
        if (layer / folder).is_dir():
            syscalls.bind(layer / folder, Path("/etc") / folder)  # the host's own policies are not the fleet's


def bind_etc(layer: Path, files: dict[str, str]) -> None:
    """The same by binds, where an overlay cannot be had; the policy folders are made when missing."""
    for name in files:
        target = Path(os.path.realpath(Path("/etc") / name))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        syscalls.bind(layer / name, target)


def limit(spec: Spec) -> None:
    """rlimits and umask: many descriptors for Chrome, no core file that could hold a page or a key."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (spec.open_files, spec.open_files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def restrict_sockets(*, netlink: bool) -> None:
    """From here on, in every child too: sockets of Unix, IPv4 and IPv6 alone, NETLINK if allowed, no multicast groups.

    netctl's rules see IP packets that have a UID. Other families (vsock, PPPoE) send none of the first kind, and
    the kernel's own sockets (SMC) or its IGMP and MLD reports for a group none of the second.

    Loaded by root without no_new_privs: Chrome's sandbox may need its set-UID helper. 32-bit calls are
    no way around it: libseccomp ends a process that uses an architecture the filter does not know.
    """
    filter = pyseccomp.SyscallFilter(pyseccomp.ALLOW)  # noqa: A001 - the library's word
    filter.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    refused = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(AF_NETLINK + 1)) - {*FAMILIES, *((AF_NETLINK,) if netlink else ())}:
        filter.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    # Also numbers whose upper half, which the kernel does not look at, is not 0.
    filter.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.GT, AF_NETLINK))
    filter.add_rule(pyseccomp.ERRNO(errno.EPROTONOSUPPORT), "socket", pyseccomp.Arg(2, pyseccomp.GT, LAST_PROTOCOL))
    for level, options in GROUP_OPTIONS.items():
        for option in options:
            numbers = [
                pyseccomp.Arg(place, pyseccomp.MASKED_EQ, _INT, number) for place, number in ((1, level), (2, option))
            ]
            filter.add_rule(pyseccomp.ERRNO(errno.EPERM), "setsockopt", *numbers)
    # Its rings open sockets and set options without a call that a filter sees.
    filter.add_rule(pyseccomp.ERRNO(errno.EPERM), "io_uring_setup")
    filter.load()


def drop(spec: Spec, gid: int) -> None:
    """From root to the worker, for good; then the death signal, which a change of UID clears (prctl(2))."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(spec.uid, spec.uid, spec.uid)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, spec.death_signal)


if __name__ == "__main__":
    main()
