"""The kernel calls that a worker may not make: a seccomp filter that root loads and every child inherits.

`worker prepare` compiles it once for all workers, into their launch specs: to do so took a launcher 20 ms.
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
"""The family's own, ICMP, TCP, UDP, ICMPv6, UDP-Lite (linux/in.h): those whose packets netctl's rules see."""
LAST_PROTOCOL = 255
"""Above it are the kernel's own layers instead of IP protocols: SMC, MPTCP (linux/in.h)."""
GROUP_OPTIONS = {0: (35, 39, 42, 46), 41: (20, 42, 46)}
"""By level (IPPROTO_IP, IPPROTO_IPV6): the options that join a multicast group (linux/in.h, linux/in6.h)."""
DENIED = (
    "io_uring_setup",  # its rings open sockets and set options without a call that a filter sees
    *("bpf", "perf_event_open", "userfaultfd"),  # large parts of the kernel that no browser needs
    *("add_key", "keyctl", "request_key"),  # keyrings belong to the UID and outlive namespaces
    "open_by_handle_at",  # opens files past every mount
    # Mounts of a user namespace; FUSE among them, whose server, a stranger's process, keeps a worker's from ending.
    *("mount", "umount2", "pivot_root"),
    *("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
)
_INT = 0xFFFFFFFF
"""What the kernel looks at of an int that comes in a wider register."""


@cache
def compiled(*, netlink: bool) -> str:
    """No call of DENIED, only the families and protocols above, no multicast groups: BPF (seccomp(2)) in base64.

    NETLINK sockets only with NETLINK. netctl's rules see IP packets that have a UID. Other families (vsock, PPPoE)
    send none, and the kernel's own sockets (SMC) or its IGMP and MLD reports for a group have no UID.

    32-bit calls are no way around it: libseccomp ends a process that uses an architecture the filter does not know.
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
    # Also numbers whose upper half, which the kernel does not look at, is not 0.
    rules.add_rule(refused, "socket", pyseccomp.Arg(0, pyseccomp.GT, AF_NETLINK))
    refused = pyseccomp.ERRNO(errno.EPROTONOSUPPORT)
    for protocol in set(range(LAST_PROTOCOL + 1)) - set(PROTOCOLS):
        rules.add_rule(refused, "socket", pyseccomp.Arg(2, pyseccomp.EQ, protocol))
    rules.add_rule(refused, "socket", pyseccomp.Arg(2, pyseccomp.GT, LAST_PROTOCOL))
