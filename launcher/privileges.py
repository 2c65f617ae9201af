"""What a worker gives up permanently: limits, capabilities, root's UID, and every way to gain new rights."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from fleet.launch_spec import LaunchSpec
from fleet.machine import syscalls

_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
_OF_THE_HELPER = frozenset({6, 7, 18, 21})
"""CAP_SETGID, CAP_SETUID, CAP_SYS_CHROOT, CAP_SYS_ADMIN: what Chrome's set-UID helper needs to make its sandbox."""


def limit(spec: LaunchSpec) -> None:
    """Set rlimits and umask: many descriptors for Chrome, no core file, which could contain a page or a key."""
    for kind, most in (
        (resource.RLIMIT_NOFILE, spec.open_files),
        (resource.RLIMIT_NPROC, spec.processes),
        (resource.RLIMIT_FSIZE, spec.file_mebibytes << 20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    os.umask(0o077)


def drop(spec: LaunchSpec, gid: int) -> None:
    """Change permanently from root to the worker.

    With no_new_privs, set-UID programs and file capabilities have no effect, so no program of the host gives a worker
    another UID or a capability: what such a program sends or starts (ping, crontab, at) would be outside every wall.
    Without user namespaces, Chrome's sandbox needs a set-UID helper: then the bounding set has only the capabilities
    that this helper needs, so no program can mark a packet.
    """
    kept = frozenset[int]() if spec.user_namespaces else _OF_THE_HELPER
    for capability in {*range(int(_LAST_CAPABILITY.read_text()) + 1)} - kept:
        syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    if spec.user_namespaces:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(spec.uid, spec.uid, spec.uid)
