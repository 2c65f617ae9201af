"""System calls that Python 3.10 does not offer, through libc.

Every function raises OSError with the call's name; constants are from the kernel's uapi headers.
Standard library only: the worker's launcher runs this as root.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import NamedTuple

CLONE_NEWNS = 0x0002_0000
CLONE_NEWNET = 0x4000_0000
CLONE_NEWIPC, CLONE_NEWPID = 0x0800_0000, 0x2000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 1 << 19
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
M_ARENA_MAX = -8
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
SYS_MOUNT_SETATTR = 442
"""The same number on every architecture (asm-generic/unistd.h)."""
SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08
"""linux/openat2.h."""
STA_UNSYNC = 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, call: str) -> int:
    """RESULT of the libc function CALL (opened with use_errno); raises OSError when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def one_heap() -> None:
    """Let all threads share one heap (mallopt(3), M_ARENA_MAX); glibc would otherwise keep megabytes per thread."""
    _libc.mallopt(M_ARENA_MAX, 1)


def lock_memory() -> None:
    """Keep all pages of this process out of swap from now on; pages are still allocated on first use (mlockall(2))."""
    checked(_libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT), "mlockall")


def lock(value: bytes) -> bool:
    """Keep the pages of VALUE out of swap while this process lives (mlock(2)); False when the limit is reached."""
    return bool(_libc.mlock(ctypes.c_char_p(value), ctypes.c_size_t(len(value))) == 0)


def unshare(flags: int) -> None:
    checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """setns(2): move this thread into the namespace of DESCRIPTOR."""
    checked(_libc.setns(descriptor, kind), "setns")


class Capabilities(NamedTuple):
    """One thread's sets as 64-bit masks (capabilities(7))."""

    effective: int
    permitted: int
    inheritable: int


_CAPABILITIES = struct.Struct("=6I")
_VERSION_3 = struct.pack("=Ii", 0x20080522, 0)
"""struct __user_cap_header_struct for the calling thread (linux/capability.h)."""


def capabilities() -> Capabilities:
    """This thread's capabilities (capget(2))."""
    answer = ctypes.create_string_buffer(_CAPABILITIES.size)
    checked(_libc.capget(ctypes.create_string_buffer(_VERSION_3, 8), answer), "capget")
    words = _CAPABILITIES.unpack(answer.raw)
    return Capabilities(*(low | high << 32 for low, high in zip(words[:3], words[3:], strict=True)))


def set_capabilities(wanted: Capabilities) -> None:
    """Set the capabilities of this thread only (capset(2))."""
    words = [one & 0xFFFFFFFF for one in wanted] + [one >> 32 for one in wanted]
    checked(_libc.capset(ctypes.create_string_buffer(_VERSION_3, 8), _CAPABILITIES.pack(*words)), "capset")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    checked(result, f"mount {target}")


def bind(source: Path, target: Path, *, below: bool = False) -> None:
    """Bind-mount SOURCE (a file or a folder) on TARGET, which must exist; with BELOW including the mounts under it."""
    mount(str(source), str(target), "none", MS_BIND | (MS_REC if below else 0))


def unmount(target: Path) -> None:
    """umount2(2), lazily: the mount disappears at once; processes keep their open files."""
    checked(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


class _MountAttributes(ctypes.Structure):
    """struct mount_attr (linux/mount.h)."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace"))


def read_only(path: Path, *, below: bool = False, set_uid: bool = True) -> None:
    """Make the mount at PATH read-only; with BELOW also every mount under it.

    Without SET_UID set-UID programs on it have no effect (nosuid).

    mount_setattr(2), Linux 5.12: one call for the whole tree, including mounts that no path leads to.
    """
    wanted = MOUNT_ATTR_RDONLY | (0 if set_uid else MOUNT_ATTR_NOSUID)
    _mount_attributes(path, _MountAttributes(set=wanted), AT_RECURSIVE if below else 0)


def writable(path: Path) -> None:
    """Make the mount at PATH writable, but not the mounts under it."""
    _mount_attributes(path, _MountAttributes(clear=MOUNT_ATTR_RDONLY), 0)


def _mount_attributes(path: Path, wanted: _MountAttributes, flags: int) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    result = _libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), flags, ctypes.byref(wanted), size)
    checked(result, f"mount_setattr {path}")


def private_mounts() -> None:
    """Enter a new mount namespace: mounts made from now on are visible only to this process and end with it."""
    unshare(CLONE_NEWNS)
    mount("none", "/", "none", MS_REC | MS_SLAVE)


_OPEN_HOW = struct.Struct("=QQQ")
"""struct open_how: flags, mode, resolve."""


def open_beneath(folder: int, path: str, flags: int) -> int:
    """Open PATH below the open FOLDER; no symbolic link is followed and no `..` leads out.

    openat2(2), Linux 5.6.
    """
    how = _OPEN_HOW.pack(flags, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
    found = _libc.syscall(SYS_OPENAT2, folder, os.fsencode(path), how, ctypes.c_size_t(_OPEN_HOW.size))
    return checked(found, path)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    checked(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def filter_calls(program: bytes) -> None:
    """Filter every system call from now on, in children too, by PROGRAM (an array of struct sock_filter).

    seccomp(2), SECCOMP_SET_MODE_FILTER. Root needs no no_new_privs for it.
    """
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and their address.
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions)))
    checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0), "prctl PR_SET_SECCOMP")


class _Timex(ctypes.Structure):
    """The first fields of struct timex (linux/timex.h), with space for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "frequency", "maximum_error", "estimated_error")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def clock_is_synchronised() -> bool:
    """Whether the machine's clock is synchronised (adjtimex(2)); reading needs no privilege."""
    asked = _Timex()
    checked(_libc.adjtimex(ctypes.byref(asked)), "adjtimex")
    return not asked.status & STA_UNSYNC
