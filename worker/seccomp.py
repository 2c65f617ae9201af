"""The system calls that a worker may not make: a seccomp filter that root loads and every child inherits.

`worker prepare` compiles it once into the launch specs of all workers, because compiling takes 20 ms.
"""

from __future__ import annotations

import base64
import errno
import tempfile
from functools import cache

import pyseccomp

AF_NETLINK = 16
FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""
PROTOCOLS = (0, 1, 6, 17, 58, 136)
"""Default, ICMP, TCP, UDP, ICMPv6, UDP-Lite (linux/in.h): the protocols whose packets netctl's rules see."""
LAST_PROTOCOL = 255
"""Numbers above it are no IP protocols but layers of the kernel: SMC, MPTCP (linux/in.h)."""
GROUP_OPTIONS = {0: (35, 39, 42, 46), 41: (20, 42, 46)}
"""By level (IPPROTO_IP, IPPROTO_IPV6): the options that join a multicast group (linux/in.h, linux/in6.h)."""
DENIED = (
    "io_uring_setup",  # it can open sockets and set options without system calls that a filter sees
    *("bpf", "perf_event_open", "userfaultfd"),  # large parts of the kernel that a browser does not need
    *("add_key", "keyctl", "request_key"),  # keyrings belong to the UID and outlive namespaces
    "open_by_handle_at",  # opens files regardless of mounts
    # Mounts in a user namespace; with FUSE the server, another process, could keep a worker's processes from ending.
    *("mount", "umount2", "pivot_root"),
    *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
)
_INT = 0xFFFFFFFF
"""The part of a register that the kernel reads for an int."""


@cache
def compiled(*, netlink: bool) -> str:
    """The filter as BPF (seccomp(2)) in base64: denies DENIED, other families and protocols, and multicast groups.

    AF_NETLINK sockets are allowed only with NETLINK. netctl's rules see IP packets that have a UID. Other families
    (vsock, PPPoE) send no IP packets, and the kernel's own sockets (SMC) and its IGMP and MLD reports have no UID.

    32-bit system calls do not bypass it: libseccomp's filter kills a process that uses another architecture.
    """
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    _sockets(rules, netlink=netlink)
    for level, options in GROUP_OPTIONS.items():
        for option in options:
            numbers = [
                pyseccomp.Arg(place, pyseccomp.MASKED_EQ, _INT, number) for place, number in ((1, level), (2, option))
            ]
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "setsockopt", *numbers)
    for call in DENIED:
        rules.add_rule(pyseccomp.ERRNO(errno.EPERM), call)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return base64.b64encode(file.read()).decode()


def _sockets(rules: pyseccomp.SyscallFilter, *, netlink: bool) -> None:
    refused = pyseccomp.ERRNO(errno.EAFNOSUPPORT)
    for family in set(range(AF_NETLINK + 1)) - {*FAMILIES, *((AF_NETLINK,) if netlink else ())}:
        rules.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    # This also refuses numbers with a non-zero upper half, which the kernel ignores.
    rules.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.GT, AF_NETLINK))
    refused = pyseccomp.ERRNO(errno.EPROTONOSUPPORT)
    for protocol in set(range(LAST_PROTOCOL + 1)) - set(PROTOCOLS):
        rules.add_rule(refused, "socket", pyseccomp.Arg(2, pyseccomp.EQ, protocol))
    rules.add_rule(refused, "socket", pyseccomp.Arg(2, pyseccomp.GT, LAST_PROTOCOL))
