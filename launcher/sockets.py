"""The sockets that a worker may open: a seccomp filter."""

from __future__ import annotations

import errno

import pyseccomp

AF_NETLINK = 16


FAMILIES = (1, 2, 10)
"""AF_UNIX, AF_INET, AF_INET6."""


LAST_PROTOCOL = 255
"""Above it are no protocols of IP but the kernel's own layers: SMC, MPTCP (linux/in.h)."""


GROUP_OPTIONS = {0: (35, 39, 42, 46), 41: (20, 42, 46)}
"""By level (IPPROTO_IP, IPPROTO_IPV6): the options that join a multicast group (linux/in.h, linux/in6.h)."""


_INT = 0xFFFFFFFF
"""What the kernel looks at of an int that comes in a wider register."""


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
